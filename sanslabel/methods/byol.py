"""BYOL: a network predicts what its own slow average makes of another view, without negatives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sanslabel import encoders, views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.heads import mlp
from sanslabel.losses import negative_cosine
from sanslabel.memory import ema_
from sanslabel.methods.method import Method, Networks, Objective
from sanslabel.optimizers import LARS, AdamW
from sanslabel.recipe import Recipe
from sanslabel.schedules import cosine


@dataclass(frozen=True, kw_only=True)
class BYOL(Method):
    """Bootstrap your own latent (Grill et al. 2020). Energy of a pair: the squared distance between the prediction of
    the student, which the paper calls online network, and the embedding of the teacher, its target network, both of
    unit length. Defaults are the authors' code for 1000 epochs of ImageNet: two layers in projector and predictor, a
    teacher with a random start of its own that normalizes by its own batch, each view seen by both, one at a time."""

    family = "distillation"
    energy = "the squared distance between a prediction and the teacher's embedding"
    prevents_collapse = "the teacher follows slowly, without a gradient, and the student alone has a predictor"
    paper = "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning"
    year = 2020
    needs = "a momentum teacher"
    positive = ("hidden", "width")

    momentum: float = 0.996
    """τ of the teacher at the start, which a cosine takes to 1; the authors have 0.97 for 40 epochs, 0.99 for 300"""
    hidden: int = 4096
    """width of the hidden layers of projector and predictor"""
    width: int = 256
    """of the embedding"""
    view: views.AnyView = views.BYOL

    recipe = Recipe(
        encoder={"name": "resnet50", "zero_residual": True},
        optimizer=LARS(lr=0.2, weight_decay=1.5e-6),
        scaling="linear",
        batch=4096,
        epochs=1000,
        warmup=10,
    )
    small = Recipe(
        encoder="conv",
        optimizer=AdamW(lr=2e-3, weight_decay=1e-4),
        batch=256,
        epochs=20,
        warmup=2,
        hyperparameters=dict(momentum=0.97, hidden=1024, view=replace(views.SIMCLR, crop=(0.2, 1.0))),
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        student, teacher = (
            Networks(encoder=e, projector=mlp(e.width, self.hidden, self.width, bias=True))
            for e in (encoder, encoders.build(**encoder.config))
        )
        student.predictor = mlp(self.width, self.hidden, self.width, bias=True)
        student.teacher = teacher.requires_grad_(False)
        return student

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        first, second = self.view.input(batch, 0), self.view.input(batch, 1)
        a, b = (net.projector(net.encoder(*view)) for view in (first, second))  # (N, D) each
        p, q = (gather(net.predictor(z)) for z in (a, b))
        t, u = (gather(net.teacher.projector(net.teacher.encoder(*view))) for view in (first, second))
        yield Objective(
            (2 + 2 * negative_cosine(p, u)) + (2 + 2 * negative_cosine(q, t)),
            embedding=gather(a),
            positive=gather(b),
            images={"first view": first.images, "second view": second.images},
            trivial=0.0,
        )
        ema_(net.teacher, net, cosine(clock.progress, self.momentum, 1.0))
