"""Translation: a transformer reads a text, and predicts the next token of its translation at every place at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from typing import Annotated, Any

import torch
from torch import Tensor

from sanslabel import losses
from sanslabel.batch import Batch, Clock, Facts, Tokens
from sanslabel.beam_search import Hypotheses, beam_search, greedy_search
from sanslabel.constraints import Count, Fraction
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.encoders.text import TextEncoder, real_tokens, text_encoder
from sanslabel.heads import PredictorKind, Progress, TextPredictor
from sanslabel.inputs import BEGIN
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import AdamW
from sanslabel.recipe import Recipe

LONGEST = 10
"""tokens that a translation may have beyond twice those of the longest source"""


@dataclass(frozen=True, kw_only=True)
class Translation(Method):
    """The transformer on parallel text (Vaswani et al. 2017), as an energy of pairs: a conditional, delayed, denoising
    autoencoder. The encoder reads the source. The predictor reads the target, delayed by one token, and the source. The
    decoder, which is the encoder's table of tokens, scores every token of the vocabulary at each place. The energy of a
    pair is minus the log-likelihood of the target's tokens, given the source and the tokens before.

    Defaults are the authors' base model. Norms stand before each layer and at the end (pre-norm), where theirs stand
    after it: training is then stable with few steps of warm-up. The MLPs have GELU in place of ReLU, like all
    transformers here. There is no dropout. Batches have a number of sentences of similar length, not of tokens; the
    loss is the mean over all tokens of the batch, as theirs is. Weights of the last steps are not averaged."""

    family = Family.GENERATIVE
    energy = "minus the log-likelihood of a target text per token, given the source text"
    prevents_collapse = "the probabilities of all target texts sum to 1, so that not all energies can be low"
    paper = "Attention Is All You Need"
    year = 2017
    needs = "parallel text"
    signals = ("source", "target")
    one_encoder = True
    unit = "nats a token"

    predictor: PredictorKind = "transformer"
    """how the predictor reads the target: causal self-attention, or a gated recurrent unit with as many weights"""
    depth: Annotated[int, Count] = 6
    """number of blocks in the predictor"""
    smoothing: Annotated[float, Fraction] = 0.1
    """ε: the target token has 1 - ε + ε/V of the probability to be predicted, and every other token ε/V"""

    recipe = Recipe(
        encoder="text_medium",
        optimizer=AdamW(lr=7e-4, betas=(0.9, 0.98), epsilon=1e-9, weight_decay=0.0),
        batch=1024,
        epochs=23,
        warmup=0.9,
        inverse_square_root=True,
    )
    small = Recipe(
        encoder="text_micro",
        optimizer=AdamW(lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01),
        batch=128,
        epochs=20,
        warmup=1,
        clip=1.0,
        hyperparameters=dict(depth=3),
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        text = text_encoder(encoder, "translation")
        return Networks(encoder=text, predictor=TextPredictor(text.width, text.heads, self.depth, self.predictor))

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        source, target = batch.tokens("source"), batch.tokens("target")
        read = net.encoder.tokens(source.ids)  # (N, S, D)
        logits = self.logits(net, read, source.ids, target.ids)  # (N, T, V)
        nll, uniform = losses.token_nll_terms(logits, target.ids, real_tokens(target.ids))
        count = gather(target.lengths).sum()
        token_nll, even = gather(nll).sum() / count, gather(uniform).sum() / count
        right = (logits.argmax(dim=2) == target.ids) & real_tokens(target.ids)
        yield Objective(
            (1 - self.smoothing) * token_nll + self.smoothing * even,
            terms={"token_nll": token_nll, "accuracy": gather(right.sum(dim=1)).sum() / count},
            embedding=gather(net.encoder.pooled(read)),
            trivial=log(logits.shape[2]),
        )

    def logits(self, net: Networks, read: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Returns the logits of every token at each place of the target, (N, T, V), from the tokens before the place.

        read: (N, S, D), the encoder's tokens of the source; source, target: (N, S) and (N, T) int64.
        """
        predicted = net.predictor(net.encoder.embed(delayed(target)), read, real_tokens(source))
        return net.encoder.scores(predicted)

    def energy_of_pairs(self, net: Any, source: Tokens, target: Tokens) -> Tensor:
        """Returns the energy of each pair in nats a token, with the end: (N,)."""
        logits = self.logits(net, net.encoder.tokens(source.ids), source.ids, target.ids)
        return losses.token_nll(logits, target.ids, target.lengths) / target.lengths

    def translate(
        self, net: Any, source: Tokens, beam: int = 4, alpha: float = 1.0, longest: int | None = None
    ) -> Hypotheses:
        """Returns the translation of each source, see `beam_search`; a beam of 1 is greedy search.

        longest: the most tokens of a translation, by default 10 more than twice those of the longest source.
        """
        encoder: TextEncoder = net.encoder
        predictor: TextPredictor = net.predictor
        longest = longest or LONGEST + 2 * source.ids.shape[1]
        progress = predictor.start(encoder.tokens(source.ids), real_tokens(source.ids))

        def advance(last: Tensor, progress: Progress) -> tuple[Tensor, Progress]:
            token = encoder.embed(last[:, None], start=progress.place)
            predicted, progress = predictor.advance(token, progress)
            return encoder.scores(predicted[:, 0]), progress

        count, device = len(source.ids), source.ids.device
        if beam == 1:
            return greedy_search(advance, progress, count, longest, device)
        return beam_search(advance, progress, count, longest, device, beam, alpha)

    def attention_of_pairs(self, net: Any, source: Tokens, target: Tokens) -> Tensor:
        """Returns how much each place of the target reads each token of the source, (N, depth, heads, T, S)."""
        before, read = net.encoder.embed(delayed(target.ids)), net.encoder.tokens(source.ids)
        return net.predictor.source_weights(before, read, real_tokens(source.ids))


def delayed(target: Tensor) -> Tensor:
    """Returns the target one place later, with BEGIN as the first token: (N, T) int64 -> (N, T)."""
    return torch.cat([torch.full_like(target[:, :1], BEGIN), target[:, :-1]], dim=1)
