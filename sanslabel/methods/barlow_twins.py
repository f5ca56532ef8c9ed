"""Barlow Twins: each dimension of the embedding agrees between views, and no two dimensions say the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sanslabel import losses, views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.heads import mlp
from sanslabel.memory import ema_, teacher_of
from sanslabel.methods.method import Method, Networks, Objective
from sanslabel.optimizers import LARS, AdamW
from sanslabel.recipe import Group, Recipe


@dataclass(frozen=True, kw_only=True)
class BarlowTwins(Method):
    """Redundancy reduction (Zbontar et al. 2021), after H. Barlow's principle for neurons. Energy of a pair: how far
    the correlation of a dimension with itself, from view to view over the batch, is from 1. Defaults are the authors'
    code: a projector of three layers without bias; the views go through the network one after the other."""

    family = "redundancy reduction"
    energy = "1 minus the correlation of each dimension between two views, squared"
    prevents_collapse = "dimensions are standardized over the batch, and correlations of different ones pushed to 0"
    paper = "Barlow Twins: Self-Supervised Learning via Redundancy Reduction"
    year = 2021
    positive = ("width", "layers")

    redundancy: float = 0.0051
    """λ, of the squared correlations of different dimensions"""
    width: int = 8192
    """of all layers of the projector; accuracy grows with it"""
    layers: int = 3
    """of the projector"""
    teacher: float | None = None
    """momentum of a second encoder that embeds the second view; the paper has none"""
    view: views.AnyView = views.BYOL

    recipe = Recipe(
        encoder={"name": "resnet50", "zero_residual": True},
        optimizer=LARS(lr=0.2, weight_decay=1e-6),
        scaling="linear",
        batch=2048,
        epochs=1000,
        warmup=10,
        final_lr_factor=0.001,
        groups=(Group(match="*", vectors=True, lr_factor=0.0048 / 0.2),),
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
        if self.teacher is not None:
            net.teacher = teacher_of(net)
        return net

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        first, second = self.view.input(batch, 0), self.view.input(batch, 1)
        partner = net if self.teacher is None else net.teacher
        a = gather(net.projector(net.encoder(*first)))  # (N, D)
        b = gather(partner.projector(partner.encoder(*second)))
        yield Objective(
            losses.barlow_twins(a, b, self.redundancy),
            embedding=a,
            positive=b,
            images={"first view": first.images, "second view": second.images},
            trivial=float(self.width),
        )
        if self.teacher is not None:
            ema_(net.teacher, net, self.teacher)
