"""BYOL: the student predicts the embedding of another view by a teacher, its slow average; there are no negatives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

from sanslabel import encoders, views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.constraints import Fraction, Positive
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.heads import mlp
from sanslabel.losses import negative_cosine
from sanslabel.memory import follow_
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import LARS, AdamW
from sanslabel.recipe import Recipe
from sanslabel.schedules import cosine


@dataclass(frozen=True, kw_only=True)
class BYOL(Method):
    """Bootstrap your own latent (Grill et al. 2020). The energy of a pair is the squared distance between the student's
    prediction and the teacher's embedding, both of unit length. The paper calls the student "online network" and the
    teacher "target network".

    Defaults are the authors' code for 1000 epochs of ImageNet. Projector and predictor have two layers. The teacher
    starts from random weights of its own and normalizes by the statistics of its own batch. Both networks embed both
    views, one view at a time.

    Brightness is multiplied, and contrast is about the mean luma, as in all other methods. The authors add brightness,
    and change the contrast of each channel about its own mean. Crops are resized bilinearly, theirs bicubically. The
    classifier that they train beside it is left out, since its gradient never reaches the encoder."""

    family = Family.DISTILLATION
    energy = "the squared distance between a prediction and the teacher's embedding"
    prevents_collapse = "the teacher follows slowly, without a gradient, and only the student has a predictor"
    paper = "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning"
    year = 2020
    needs = "a momentum teacher"
    embeds_views = True

    momentum: Annotated[float, Fraction] = 0.996
    """τ, momentum of the teacher at the start, which rises to 1 along a cosine; the authors use 0.97 for 40 epochs and
    0.99 for 300"""
    hidden: Annotated[int, Positive] = 4096
    """width of the hidden layers of projector and predictor"""
    width: Annotated[int, Positive] = 256
    """width of the embedding"""
    view: views.AnyView = views.BYOL

    recipe = Recipe(
        encoder={"name": "resnet50", "zero_residual": True},
        decode_factor=4.1,
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
            pair=(first, second),
            trivial=0.0,
        )
        follow_(net, cosine(clock.progress, self.momentum, 1.0))
