"""VICReg: views agree, every dimension of the embedding varies, and no two dimensions say the same."""

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
from sanslabel.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class VICReg(Method):
    """Variance, invariance and covariance regularization (Bardes, Ponce and LeCun 2022). Energy of a pair: the squared
    distance of its embeddings. Defaults are the authors' code: an expander of three layers of width 8192, biases under
    BatchNorm and none in the last layer; the views go through the network one after the other."""

    family = "redundancy reduction"
    energy = "the squared distance of two views"
    prevents_collapse = "a hinge keeps each dimension's standard deviation at 1, and covariances are pushed to 0"
    paper = "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning"
    year = 2022
    positive = ("width", "layers")

    invariance: float = 25.0
    """λ, of the mean squared difference"""
    variance: float = 25.0
    """μ, of the hinge on standard deviations; halved over the two views"""
    covariance: float = 1.0
    """ν, of the squared covariances over D; summed over the two views"""
    width: int = 8192
    """of all layers of the projector, which the paper calls expander"""
    layers: int = 3
    """of the projector"""
    norm: bool = True
    """BatchNorm in the projector"""
    teacher: float | None = None
    """momentum of a second encoder that embeds the second view; the paper has none"""
    view: views.AnyView = views.BYOL
    """the authors' code has the views of BYOL"""

    recipe = Recipe(
        encoder={"name": "resnet50", "zero_residual": True},
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
        if self.teacher is not None:
            net.teacher = teacher_of(net)
        return net

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        first, second = self.view.input(batch, 0), self.view.input(batch, 1)
        partner = net if self.teacher is None else net.teacher
        a = gather(net.projector(net.encoder(*first)))  # (N, D)
        b = gather(partner.projector(partner.encoder(*second)))
        yield Objective(
            losses.vicreg(a, b, self.invariance, self.variance, self.covariance),
            embedding=a,
            positive=b,
            images={"first view": first.images, "second view": second.images},
            trivial=self.variance * 0.99,
        )
        if self.teacher is not None:
            ema_(net.teacher, net, self.teacher)
