"""Barlow Twins: each dimension of the embedding agrees between views, and no two dimensions are correlated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.constraints import Count, Fraction, Positive
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.heads import mlp
from sanslabel.losses import barlow_twins_terms
from sanslabel.memory import add_teacher_, follow_
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import LARS, AdamW
from sanslabel.recipe import Group, Recipe

GPUS = 16
"""on which the authors trained the model that they published. Without it, one step at the peak learning rate moves the
scales of ResNet-18's first BatchNorm by 65 % of their norm, at a width of 2048; with it by 4 %. It moves weights by
0.16 %."""


@dataclass(frozen=True, kw_only=True)
class BarlowTwins(Method):
    """Redundancy reduction (Zbontar et al. 2021), after H. Barlow's principle for neurons. Over the batch, each
    dimension of one view's embedding is correlated with the same dimension of the other's. The energy of a pair is how
    far these correlations are from 1. Defaults are the authors' code. Its projector has three layers without bias. The
    views go through the network one after the other.

    The authors train on 16 GPUs, and their code sums the correlations over these without a gradient. That leaves 1/16
    of the gradient. LARS makes up for it by its trust ratio, which biases and norms do not have. Here the gradient is
    whole on any number of processes. For the same steps, `recipe` has 1/16 of the authors' learning rate of biases and
    norms, 0.0048, and 16 times their weight decay."""

    family = Family.REDUNDANCY_REDUCTION
    energy = "1 minus the correlation of each dimension between two views, squared"
    prevents_collapse = "dimensions are standardized over the batch; correlations between dimensions are pushed to 0"
    paper = "Barlow Twins: Self-Supervised Learning via Redundancy Reduction"
    year = 2021
    embeds_views = True

    redundancy: float = 0.0051
    """λ, weight of the squared correlations of different dimensions"""
    width: Annotated[int, Positive] = 8192
    """width of all layers of the projector; a wider projector is more accurate"""
    layers: Annotated[int, Count] = 3
    """number of layers in the projector"""
    teacher_momentum: Annotated[float | None, Fraction] = None
    """momentum of a teacher that embeds the second view; the paper has none"""
    view: views.AnyView = views.BYOL

    recipe = Recipe(
        encoder={"name": "resnet50", "zero_residual": True},
        decode_factor=4.1,
        optimizer=LARS(lr=0.2, weight_decay=1e-6 * GPUS),
        scaling="linear",
        batch=2048,
        epochs=1000,
        warmup=10,
        final_lr_factor=0.001,
        groups=(Group(match="*", vectors=True, lr_factor=0.0048 / 0.2 / GPUS),),
    )
    small = Recipe(
        encoder="conv",
        optimizer=AdamW(lr=2e-3, weight_decay=1e-4),
        batch=256,
        epochs=20,
        warmup=2,
        hyperparameters=dict(width=1024, view=replace(views.SIMCLR, crop=(0.2, 1.0))),
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        net = Networks(encoder=encoder, projector=mlp(encoder.width, *[self.width] * self.layers))
        add_teacher_(net, self.teacher_momentum)
        return net

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        first, second = self.view.input(batch, 0), self.view.input(batch, 1)
        a = gather(net.projector(net.encoder(*first)))  # (N, D)
        b = gather(net.partner.projector(net.partner.encoder(*second)))
        invariance, redundancy = barlow_twins_terms(a, b)
        yield Objective(
            invariance + self.redundancy * redundancy,
            terms={"invariance": invariance, "redundancy": redundancy},
            embedding=a,
            positive=b,
            pair=(first, second),
            trivial=float(self.width),
        )
        follow_(net, self.teacher_momentum)
