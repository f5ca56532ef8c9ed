"""Tracking: two pictures of one tracked object must be closer to each other than to pictures of other objects."""

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
from sanslabel.losses import track_hinge
from sanslabel.memory import add_teacher_, follow_
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import SGD, AdamW
from sanslabel.recipe import Group, Recipe

MIRRORED = views.View(flip=0.5)


@dataclass(frozen=True, kw_only=True)
class Tracking(Method):
    """Learning of representations from tracked objects (Wang and Gupta 2015). The energy of a pair is minus the cosine
    of its embeddings. The pair is a patch and another patch of the same track; data without pairs give two views of an
    image. Defaults are the authors' code. Its margin is 1, and its pictures are mirrored, but not cropped.

    The authors train with random negatives first, and then with half of them hard. Their number of steps for that is
    not published; `random_start` is a tenth of the run. Their network is an AlexNet, whose last embedding is rectified.
    `recipe` has a ResNet-50 and rectifies only the hidden layer, since an embedding of zeros has no direction. It has
    one layer more than theirs in place of their fully connected ones. Their 400,000 steps of 50 pairs would be five
    epochs of the four million tracks they report."""

    family = Family.CONTRASTIVE
    energy = "minus the cosine of two pictures of an object"
    prevents_collapse = "pictures of other objects must be further away by a margin"
    paper = "Unsupervised Learning of Visual Representations using Videos"
    year = 2015
    embeds_views = True

    margin: Annotated[float, Positive] = 1.0
    """M, least difference between the cosine of the pair and that of a negative"""
    negatives: Annotated[int, Positive] = 4
    """K, number of negatives of each pair, drawn from the pictures of the batch that are within the margin"""
    hard: Annotated[int, Count] = 2
    """number of negatives that are drawn from the K hardest; the others are drawn from all"""
    random_start: Annotated[float, Fraction] = 0.1
    """share of the run in which all negatives are drawn at random"""
    hidden: Annotated[int, Positive] = 4096
    """width of the projector's hidden layer"""
    width: Annotated[int, Positive] = 1024
    """width of the embedding"""
    norm: bool = False
    """BatchNorm in the projector; the authors' network has none"""
    teacher_momentum: Annotated[float | None, Fraction] = None
    """momentum of a teacher that embeds the second view; the paper has none"""
    view: views.AnyView = MIRRORED

    recipe = Recipe(
        encoder="resnet50",
        optimizer=SGD(lr=0.001, weight_decay=5e-4),
        batch=50,
        epochs=5,
        milestones=(0.25, 0.5, 0.75),
        groups=(Group(match="*", vectors=True, lr_factor=2.0),),
    )
    small = Recipe(
        encoder="conv",
        optimizer=AdamW(lr=3e-3, weight_decay=1e-4),
        batch=256,
        epochs=20,
        warmup=2,
        hyperparameters=dict(
            margin=0.5, hidden=512, width=128, norm=True, view=replace(views.SIMCLR, crop=(0.15, 1.0))
        ),
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        net = Networks(encoder=encoder, projector=mlp(encoder.width, self.hidden, self.width, norm=self.norm))
        add_teacher_(net, self.teacher_momentum)
        return net

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        first, second = self.view.input(batch, 0), self.view.input(batch, 1)
        if self.teacher_momentum is None:
            a, b = net.projector(net.encoder(*views.concatenate(first, second))).chunk(2)  # (N, D) each
        else:
            a, b = net.projector(net.encoder(*first)), net.partner.projector(net.partner.encoder(*second))
        a, b = gather(a), gather(b)
        group = None if batch.group is None else gather(batch.group)
        hard = 0 if clock.progress < self.random_start else self.hard
        yield Objective(
            track_hinge(a, b, self.margin, negatives=self.negatives, hard=hard, group=group, key=clock.key),
            embedding=a,
            positive=b,
            pair=(first, second),
            trivial=self.margin,
            negatives=2 * len(a) - 2,
        )
        follow_(net, self.teacher_momentum)
