"""SimSiam: a view's prediction matches another view's embedding, which no gradient reaches; nothing else is needed."""

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
from sanslabel.losses import negative_cosine
from sanslabel.memory import add_teacher_, follow_
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import SGD, AdamW
from sanslabel.recipe import Group, Recipe

PREDICTOR = Group(match="predictor.*", constant=True)
"""the predictor's parameters; at a constant learning rate, the predictor keeps up better with the embedding"""


@dataclass(frozen=True, kw_only=True)
class SimSiam(Method):
    """Simple siamese representation learning (Chen and He 2021). The energy of a pair is minus the cosine between a
    prediction and an embedding. Without `stop_gradient`, or without `prediction`, the method collapses.

    Defaults are the authors' code for ImageNet. BatchNorm follows every layer of the projector, after the last one
    without a scale. The predictor does not end in BatchNorm. The predictor's learning rate is constant. The views go
    through the network one after the other.

    The other learning rates fall with every step, theirs with every epoch, since all methods share one schedule. The
    projector's last layer has no bias; theirs has a constant one, which BatchNorm removes."""

    family = Family.DISTILLATION
    energy = "minus the cosine between a prediction and an embedding"
    prevents_collapse = "no gradient reaches the embedding that is predicted"
    paper = "Exploring Simple Siamese Representation Learning"
    year = 2021
    embeds_views = True

    width: Annotated[int, Positive] = 2048
    """width of the projector's layers and of the embedding"""
    layers: Annotated[int, Count] = 3
    """number of layers in the projector; the authors have 2 for CIFAR-10"""
    hidden: Annotated[int, Positive] = 512
    """width of the predictor's hidden layer, a bottleneck"""
    stop_gradient: bool = True
    """no gradient reaches the embedding that is predicted"""
    prediction: bool = True
    """a predictor follows the projector; without it, embeddings are compared directly"""
    teacher_momentum: Annotated[float | None, Fraction] = None
    """momentum of a teacher whose embeddings are predicted; the paper has none"""
    view: views.AnyView = views.WEAK

    recipe = Recipe(
        encoder={"name": "resnet50", "zero_residual": True},
        decode_factor=2.6,
        optimizer=SGD(lr=0.05, weight_decay=1e-4),
        scaling="linear",
        batch=512,
        epochs=100,
        decay_all=True,
        groups=(PREDICTOR,),
    )
    small = Recipe(
        encoder="conv",
        optimizer=AdamW(lr=2e-3, weight_decay=1e-4),
        batch=256,
        epochs=20,
        warmup=2,
        groups=(PREDICTOR,),
        hyperparameters=dict(width=512, layers=2, hidden=128, view=replace(views.SIMCLR, crop=(0.2, 1.0))),
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        widths = [encoder.width, *[self.width] * self.layers]
        net = Networks(encoder=encoder, projector=mlp(*widths, final_norm=True, affine=False))
        add_teacher_(net, self.teacher_momentum)
        if self.prediction:
            net.predictor = mlp(self.width, self.hidden, self.width, final_bias=True)
        return net

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        first, second = self.view.input(batch, 0), self.view.input(batch, 1)
        a, b = (net.projector(net.encoder(*view)) for view in (first, second))  # (N, D) each
        p, q = (gather(net.predictor(z) if self.prediction else z) for z in (a, b))
        if self.teacher_momentum is None:
            t, u = gather(a), gather(b)
        else:
            t, u = (gather(net.partner.projector(net.partner.encoder(*view))) for view in (first, second))
        if self.stop_gradient:
            t, u = t.detach(), u.detach()
        yield Objective(
            (negative_cosine(p, u) + negative_cosine(q, t)) / 2,
            embedding=gather(a),
            positive=gather(b),
            pair=(first, second),
            trivial=-1.0,
        )
        follow_(net, self.teacher_momentum)
