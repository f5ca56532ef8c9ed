"""SimCLR: two views of a sample must find each other among all views of the batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import log
from typing import Annotated

import torch

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.constraints import Count, Fraction, Positive
from sanslabel.diagnostics import hardest_tenth
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.heads import mlp
from sanslabel.losses import nt_xent
from sanslabel.memory import add_teacher_, follow_
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import LARS, AdamW
from sanslabel.recipe import Group, Recipe


@dataclass(frozen=True, kw_only=True)
class SimCLR(Method):
    """A simple framework for contrastive learning (Chen et al. 2020). The energy of a pair is minus the cosine of its
    embeddings. Defaults are the authors' code for ImageNet. Its projector has three layers, of width 2048, 2048 and
    128, with BatchNorm after each. Both views go through the network in one pass.

    The loss is the mean over all 2N rows, as in the paper. The authors' code adds the means of both views, which is
    twice as much; `recipe` makes up for that, so that its steps are theirs. Its weight decay stands for 1e-6, from the
    paper and the authors' code for TensorFlow 2. The command in their README has 1e-4."""

    family = Family.CONTRASTIVE
    energy = "minus the cosine of two views"
    prevents_collapse = "every other image of the batch is a negative"
    paper = "A Simple Framework for Contrastive Learning of Visual Representations"
    year = 2020
    embeds_views = True

    temperature: Annotated[float, Positive] = 0.1
    """τ; 0.5 in the authors' command for CIFAR-10"""
    hidden: Annotated[int, Positive] = 2048
    """width of the projector's hidden layers"""
    width: Annotated[int, Positive] = 128
    """width of the embedding"""
    layers: Annotated[int, Count] = 3
    """number of layers in the projector"""
    norm: bool = True
    """BatchNorm in the projector"""
    teacher_momentum: Annotated[float | None, Fraction] = None
    """momentum of a teacher that embeds the second view; the paper has none"""
    view: views.AnyView = views.SIMCLR

    # Half the authors' gradient needs half their weight decay. LARS then takes the same steps, but biases and norms,
    # which have no trust ratio, need twice the learning rate.
    recipe = Recipe(
        encoder={"name": "resnet50", "zero_residual": True},
        decode_factor=4.1,
        optimizer=LARS(lr=0.3, weight_decay=1e-6 / 2, lr_in_momentum=True),
        scaling="linear",
        batch=4096,
        epochs=100,
        warmup=10,
        groups=(Group(match="*", vectors=True, lr_factor=2.0),),
    )
    small = Recipe(
        encoder="conv",
        optimizer=AdamW(lr=3e-3, weight_decay=1e-4),
        batch=256,
        epochs=20,
        warmup=2,
        hyperparameters=dict(temperature=0.2, hidden=512, layers=2, view=replace(views.SIMCLR, crop=(0.15, 1.0))),
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        widths = [encoder.width, *[self.hidden] * (self.layers - 1), self.width]
        net = Networks(encoder=encoder, projector=mlp(*widths, norm=self.norm, final_norm=self.norm))
        add_teacher_(net, self.teacher_momentum)
        return net

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        first, second = self.view.input(batch, 0), self.view.input(batch, 1)
        if self.teacher_momentum is None:
            a, b = net.projector(net.encoder(*views.concatenate(first, second))).chunk(2)  # (N, D) each
        else:
            a, b = net.projector(net.encoder(*first)), net.partner.projector(net.partner.encoder(*second))
        a, b = gather(a), gather(b)
        positives = torch.arange(len(a), device=a.device)
        yield Objective(
            nt_xent(a, b, self.temperature),
            terms={"hardest_tenth": hardest_tenth(a, b, self.temperature, excluded=positives)},
            embedding=a,
            positive=b,
            pair=(first, second),
            trivial=log(2 * len(a) - 1),
            negatives=2 * len(a) - 2,
        )
        follow_(net, self.teacher_momentum)
