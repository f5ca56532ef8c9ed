"""SimSiam: a view's prediction meets another view's embedding, which no gradient reaches; nothing else is needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.heads import mlp
from sanslabel.losses import negative_cosine
from sanslabel.memory import ema_, teacher_of
from sanslabel.methods.method import Method, Networks, Objective
from sanslabel.optimizers import SGD, AdamW
from sanslabel.recipe import Group, Recipe

PREDICTOR = Group(match="predictor.*", constant=True)
"""which keeps up with the embedding better at a rate that does not decay"""


@dataclass(frozen=True, kw_only=True)
class SimSiam(Method):
    """Simple siamese representation learning (Chen and He 2021). Energy of a pair: minus the cosine between a
    prediction and an embedding. Defaults are the authors' code for ImageNet: BatchNorm after every layer of the
    projector, without a scale after its last one; none after the predictor, whose rate is constant; the views go
    through the network one after the other. Without `stop_gradient` or `prediction` it collapses."""

    family = "distillation"
    energy = "minus the cosine between a prediction and an embedding"
    prevents_collapse = "no gradient reaches the embedding that is predicted"
    paper = "Exploring Simple Siamese Representation Learning"
    year = 2021
    positive = ("width", "hidden", "layers")

    width: int = 2048
    """of the projector's layers and of the embedding"""
    layers: int = 3
    """of the projector; the authors have 2 for CIFAR-10"""
    hidden: int = 512
    """width of the predictor's hidden layer, a bottleneck"""
    stop_gradient: bool = True
    """whether the embedding that is predicted is a constant to the gradient"""
    prediction: bool = True
    """whether there is a predictor"""
    teacher: float | None = None
    """momentum of a second network whose embeddings are predicted; the paper has none"""
    view: views.AnyView = views.WEAK

    recipe = Recipe(
        encoder={"name": "resnet50", "zero_residual": True},
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
        if self.teacher is not None:
            net.teacher = teacher_of(net)
        if self.prediction:
            net.predictor = mlp(self.width, self.hidden, self.width, final_bias=True)
        return net

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        first, second = self.view.input(batch, 0), self.view.input(batch, 1)
        a, b = (net.projector(net.encoder(*view)) for view in (first, second))  # (N, D) each
        p, q = (gather(net.predictor(z) if self.prediction else z) for z in (a, b))
        if self.teacher is None:
            t, u = gather(a), gather(b)
        else:
            t, u = (gather(net.teacher.projector(net.teacher.encoder(*view))) for view in (first, second))
        if self.stop_gradient:
            t, u = t.detach(), u.detach()
        yield Objective(
            (negative_cosine(p, u) + negative_cosine(q, t)) / 2,
            embedding=gather(a),
            positive=gather(b),
            images={"first view": first.images, "second view": second.images},
            trivial=-1.0,
        )
        if self.teacher is not None:
            ema_(net.teacher, net, self.teacher)
