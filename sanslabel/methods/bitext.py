"""Bitext: a text and its translation must find each other in the batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, log
from typing import Annotated

import torch
from torch import Tensor

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.constraints import Count, NonNegative, Positive
from sanslabel.diagnostics import hardest_tenth, matched, modality_gap
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.encoders.text import real_tokens, text_encoder
from sanslabel.heads import mlp
from sanslabel.losses import cross_modal
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import AdamW
from sanslabel.randomness import fold
from sanslabel.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Bitext(Method):
    """A dual encoder of translations, as LaBSE (Feng et al. 2022). The energy of a pair is minus the cosine of its
    embeddings. One encoder reads both languages.

    The representation is the mean over tokens, and a linear projector follows it, where the authors take the class
    token. They start from an encoder that was trained on masked texts; here it starts fresh, unless --weights gives
    one. They add both directions of the loss; here it is their mean. Equal texts of a batch, and texts of one document,
    are no negatives of each other. The temperature and the numbers of `recipe` are choices of this project."""

    family = Family.CONTRASTIVE
    energy = "minus the cosine of a text and its translation"
    prevents_collapse = "every other text of the batch is a negative of a text in the other language"
    paper = "Language-agnostic BERT Sentence Embedding"
    year = 2022
    needs = "parallel text"
    signals = ("source", "target")
    one_encoder = True

    temperature: Annotated[float, Positive] = 0.05
    """τ"""
    margin: Annotated[float, NonNegative] = 0.3
    """m, by which the cosine of a pair must exceed those of others"""
    hidden: Annotated[int, Positive] = 512
    """width of the projector's hidden layers"""
    width: Annotated[int, Positive] = 768
    """width of the embedding"""
    layers: Annotated[int, Count] = 1
    """number of layers in the projector"""

    recipe = Recipe(
        encoder="text_base",
        optimizer=AdamW(lr=1e-3, weight_decay=0.01),
        batch=4096,
        epochs=1,
    )
    small = Recipe(
        encoder="text_micro",
        optimizer=AdamW(lr=1e-3, weight_decay=0.01),
        batch=256,
        epochs=20,
        warmup=1,
        clip=1.0,
        hyperparameters=dict(temperature=0.1, width=128),
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        widths = [encoder.width, *[self.hidden] * (self.layers - 1), self.width]
        return Networks(encoder=text_encoder(encoder, "bitext"), projector=mlp(*widths, norm=False))

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        source, target = (views.Text(signal=signal).input(batch) for signal in self.signals)
        a = gather(net.projector(net.encoder(*source)))  # (N, D)
        b = gather(net.projector(net.encoder(*target)))  # (N, D)
        equal = [_equal(gather(text_keys(text.images))) for text in (source, target)]
        if batch.group is not None:
            equal.append(_equal(gather(batch.group)))
        excluded = torch.stack(equal).any(dim=0)  # (N, N)
        yield Objective(
            cross_modal(a, b, self.temperature, excluded=excluded, margin=self.margin),
            terms={
                "accuracy": matched(a, b),
                "modality_gap": modality_gap(a, b),
                "hardest_tenth": hardest_tenth(a, b, self.temperature, excluded=torch.arange(len(a), device=a.device)),
            },
            embedding=a,
            positive=b,
            trivial=log(1 + (len(a) - 1) * exp(self.margin / self.temperature)),
            negatives=len(a) - 1,
        )


def text_keys(ids: Tensor) -> Tensor:
    """Returns a number for each text that is equal for equal texts, whatever their padding: (N, T) int64 -> (N,)."""
    place = torch.arange(ids.shape[1], device=ids.device)
    return (fold(place, ids) * real_tokens(ids)).sum(dim=1)


def _equal(key: Tensor) -> Tensor:
    """Returns where two samples have one key, (N,) -> (N, N) bool."""
    return key[:, None] == key
