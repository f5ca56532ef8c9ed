"""VICReg: views agree, every dimension of the embedding varies, and no two dimensions carry the same information."""

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
from sanslabel.losses import vicreg_terms
from sanslabel.memory import add_teacher_, follow_
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import LARS, AdamW
from sanslabel.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class VICReg(Method):
    """Variance, invariance and covariance regularization (Bardes, Ponce and LeCun 2022). The energy of a pair is the
    squared distance of its embeddings. Defaults are the authors' code. Its expander has three layers of width 8192.
    Layers before BatchNorm have biases; the last layer has none. The views go through the network one after the
    other."""

    family = Family.REDUNDANCY_REDUCTION
    energy = "the squared distance of two views"
    prevents_collapse = "a hinge keeps each dimension's standard deviation at 1, and covariances are pushed to 0"
    paper = "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning"
    year = 2022
    embeds_views = True

    invariance: float = 25.0
    """λ, weight of the mean squared difference"""
    variance: float = 25.0
    """μ, weight of the hinge on standard deviations, which is averaged over the two views"""
    covariance: float = 1.0
    """ν, weight of the squared covariances, which are divided by D and summed over the two views"""
    width: Annotated[int, Positive] = 8192
    """width of all layers of the projector, which the paper calls expander"""
    layers: Annotated[int, Count] = 3
    """number of layers in the projector"""
    norm: bool = True
    """BatchNorm in the projector"""
    teacher_momentum: Annotated[float | None, Fraction] = None
    """momentum of a teacher that embeds the second view; the paper has none"""
    view: views.AnyView = views.BYOL
    """the views of BYOL, as in the authors' code"""

    recipe = Recipe(
        encoder={"name": "resnet50", "zero_residual": True},
        decode_factor=4.1,
        optimizer=LARS(lr=0.2, weight_decay=1e-6),
        scaling="linear",
        batch=2048,
        epochs=1000,
        warmup=10,
        final_lr_factor=0.001,
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
        widths = [encoder.width, *[self.width] * self.layers]
        net = Networks(encoder=encoder, projector=mlp(*widths, norm=self.norm, bias=True))
        add_teacher_(net, self.teacher_momentum)
        return net

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        first, second = self.view.input(batch, 0), self.view.input(batch, 1)
        a = gather(net.projector(net.encoder(*first)))  # (N, D)
        b = gather(net.partner.projector(net.partner.encoder(*second)))
        invariance, variance, covariance = vicreg_terms(a, b)
        yield Objective(
            self.invariance * invariance + self.variance * variance + self.covariance * covariance,
            terms={"invariance": invariance, "variance": variance, "covariance": covariance},
            embedding=a,
            positive=b,
            pair=(first, second),
            trivial=self.variance * 0.99,
        )
        follow_(net, self.teacher_momentum)
