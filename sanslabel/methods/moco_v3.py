"""MoCo v3: a prediction of each view must find the teacher's embedding of the other view within the batch."""

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
from sanslabel.losses import instance_discrimination
from sanslabel.memory import follow_, teacher_of
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import AdamW
from sanslabel.recipe import Recipe
from sanslabel.schedules import cosine


@dataclass(frozen=True, kw_only=True)
class MoCoV3(Method):
    """Momentum contrast without a queue, for transformers (Chen, Xie and He 2021). The energy of a pair is minus the
    cosine of the student's prediction, the query, and the teacher's embedding, the key.

    Defaults are the authors' code for ViTs on ImageNet. The transformer of `recipe` is theirs: fixed sines as
    positions, 12 heads, and a start from Xavier's uniform distribution. Others take these by --encoder-options. For a
    ResNet-50 the authors use τ = 1, crops from 0.2 and LARS with a learning rate of 0.3. The projector then has two
    layers, and the predictor does not end in BatchNorm.

    The teacher moves after the update, as in all methods here. The authors move it before the next pass, which is the
    same but for the momentum: theirs is one step further along the cosine."""

    family = Family.CONTRASTIVE
    energy = "minus the cosine of a prediction and the teacher's embedding of another view"
    prevents_collapse = "the teacher's embeddings of every other image of the batch are negatives"
    paper = "An Empirical Study of Training Self-Supervised Vision Transformers"
    year = 2021
    needs = "a momentum teacher"
    embeds_views = True

    temperature: Annotated[float, Positive] = 0.2
    """τ; the loss is scaled by 2τ, so that the same learning rate suits every τ"""
    momentum: Annotated[float, Fraction] = 0.99
    """m, momentum of the teacher at the start, which rises to 1 along a cosine; 0.996 for 1000 epochs"""
    width: Annotated[int, Positive] = 256
    """width of embedding and prediction"""
    hidden: Annotated[int, Positive] = 4096
    """width of the hidden layers of projector and predictor"""
    layers: Annotated[int, Count] = 3
    """number of layers in the projector; the predictor has two"""
    predictor_norm: bool = True
    """BatchNorm without scale at the end of the predictor; the projector always ends in one"""
    frozen_patches: bool = True
    """the first layer of a transformer, which embeds patches, keeps its random start; this keeps training stable"""
    view: views.AnyView = views.BYOL

    recipe = Recipe(
        encoder={"name": "vit_small", "positions": "sincos", "heads": 12, "start": "moco_v3"},
        decode_factor=4.1,
        optimizer=AdamW(lr=1.5e-4, weight_decay=0.1),
        scaling="linear",
        batch=4096,
        epochs=300,
        warmup=40,
        decay_all=True,
    )
    small = Recipe(
        encoder="conv",
        optimizer=AdamW(lr=2e-3, weight_decay=1e-4),
        batch=256,
        epochs=20,
        warmup=2,
        hyperparameters=dict(hidden=1024, layers=2, predictor_norm=False, view=replace(views.SIMCLR, crop=(0.2, 1.0))),
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        patches = getattr(encoder, "patch_embed", None)
        if self.frozen_patches and patches is not None:
            patches.requires_grad_(False)
        widths = [encoder.width, *[self.hidden] * (self.layers - 1), self.width]
        net = Networks(encoder=encoder, projector=mlp(*widths, final_norm=True, affine=False))
        net.teacher = teacher_of(net)
        net.predictor = mlp(self.width, self.hidden, self.width, final_norm=self.predictor_norm, affine=False)
        return net

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        first, second = self.view.input(batch, 0), self.view.input(batch, 1)
        queries = [gather(net.predictor(net.projector(net.encoder(*view)))) for view in (first, second)]  # (N, D) each
        keys = [gather(net.teacher.projector(net.teacher.encoder(*view))) for view in (second, first)]
        positives = torch.arange(len(keys[0]), device=keys[0].device)
        one, other = (
            instance_discrimination(q, k, positives, self.temperature) for q, k in zip(queries, keys, strict=True)
        )
        yield Objective(
            2 * self.temperature * (one + other),
            terms={"hardest_tenth": hardest_tenth(queries[0], keys[0], self.temperature, excluded=positives)},
            embedding=queries[0],
            positive=keys[0],
            pair=(first, second),
            trivial=4 * self.temperature * log(len(positives)),
            negatives=len(positives) - 1,
        )
        follow_(net, cosine(clock.progress, self.momentum, 1.0))
