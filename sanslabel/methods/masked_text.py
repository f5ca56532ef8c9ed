"""Masked text: a transformer guesses the tokens of a text that it cannot see from those around them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from typing import Annotated

from torch import nn

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.constraints import Fraction, Positive
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.encoders.text import text_encoder
from sanslabel.encoders.tokens import MaskToken
from sanslabel.losses import token_nll_terms
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import AdamW
from sanslabel.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class MaskedText(Method):
    """BERT's masked language model (Devlin et al. 2019), a denoising autoencoder of tokens. The energy of a text is
    minus the log-likelihood of its masked tokens, given the others.

    Defaults are the authors' base model, with norms before each layer, and without dropout and their second task, the
    next sentence. Each token is masked independently; they mask exactly 15 % of a text. The output has no bias. The
    learning rate falls along a cosine, theirs along a line."""

    family = Family.GENERATIVE
    energy = "minus the log-likelihood of the masked tokens, given the others"
    prevents_collapse = "the targets are tokens, which training cannot change"
    paper = "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding"
    year = 2019
    needs = "text"
    signals = ("source",)

    share: Annotated[float, Positive, Fraction] = 0.15
    """share of the tokens that are to be guessed"""
    replaced: Annotated[float, Fraction] = 0.1
    """share of these that become random tokens"""
    kept: Annotated[float, Fraction] = 0.1
    """share of these that stay as they are; a mask token takes the place of the others"""

    recipe = Recipe(
        encoder="text_base",
        optimizer=AdamW(lr=1e-4, weight_decay=0.01),
        batch=256,
        epochs=40,
        warmup=0.4,
    )
    small = Recipe(
        encoder="text_micro",
        optimizer=AdamW(lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01),
        batch=256,
        epochs=20,
        warmup=1,
        clip=1.0,
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        text, width = text_encoder(encoder, "masked_text"), encoder.width
        head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        return Networks(encoder=text, mask=MaskToken(width), head=head)

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        text, vocabulary = batch.tokens("source"), net.encoder.config["vocabulary"]
        gaps = views.gaps(batch.key, text, self.share, self.replaced, self.kept, vocabulary)
        tokens = net.encoder.tokens(gaps.ids, gaps.hidden, net.mask())  # (N, T, D)
        logits = net.encoder.scores(net.head(tokens))  # (N, T, V)
        nll, _ = token_nll_terms(logits, text.ids, gaps.guessed)
        count = gather(gaps.guessed.sum(dim=1)).sum().clamp(min=1)
        right = (logits.argmax(dim=2) == text.ids) & gaps.guessed
        yield Objective(
            gather(nll).sum() / count,
            terms={"accuracy": gather(right.sum(dim=1)).sum() / count},
            embedding=gather(net.encoder.pooled(tokens)),
            trivial=log(vocabulary),
        )
