"""MoCo: a view must find the other view's key, made by a momentum teacher, among a queue of earlier keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import log
from typing import Annotated

import torch
from torch import Tensor

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.constraints import Count, Fraction, Positive
from sanslabel.device import to_device
from sanslabel.diagnostics import hardest_tenth
from sanslabel.distributed import gather, local_slice, world_size
from sanslabel.encoders import Encoder
from sanslabel.heads import mlp
from sanslabel.losses import info_nce
from sanslabel.memory import Queue, follow_, teacher_of
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import SGD, AdamW
from sanslabel.randomness import fold, permutation
from sanslabel.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class MoCo(Method):
    """Momentum contrast (He et al. 2020), by default version 2 (Chen et al. 2020b) with its settings for ImageNet. The
    energy of a pair is minus the cosine of query and key: the student's embedding of one view and the teacher's of the
    other. Version 1 has one layer and τ = 0.07. Its views have no blur, and all are jittered, with a hue of 0.4. Its
    learning rate falls to a tenth after 120 and 160 of 200 epochs.

    BatchNorm normalizes queries and keys in groups of the batch. The keys are grouped at random, so a query and its key
    share a group only by chance. If their groups were the same samples, the statistics would reveal which key is the
    query's.

    The cosine of the learning rate falls in every step, and the authors' once an epoch, which is almost the same.
    BatchNorm's running statistics take in all groups, and the authors' those of one GPU, which see fewer images.

    `small` takes the batch as one group, and so takes batches of any size. The authors lose 4 points by that in 800
    epochs of CIFAR-10. After 3 epochs of 8,000 images of fashion it made no difference: 76.8 % by kNN, with 8 groups
    77.1 %."""

    family = Family.CONTRASTIVE
    energy = "minus the cosine of a view and the teacher's embedding of another"
    prevents_collapse = "the earlier keys in a queue are negatives"
    paper = "Momentum Contrast for Unsupervised Visual Representation Learning"
    year = 2020
    needs = "a momentum teacher"
    embeds_views = True

    temperature: Annotated[float, Positive] = 0.2
    """τ"""
    momentum: Annotated[float, Fraction] = 0.999
    """m, momentum of the teacher"""
    queue: Annotated[int, Positive] = 65_536
    """K, number of keys in the queue; at most the number of samples"""
    symmetric: bool = False
    """each view is query and key in turn, and the loss is the mean of both; a step has twice the work and twice the
    keys. The authors' notebook adds both losses: its settings need twice its learning rate and half its weight decay"""
    groups: Annotated[int, Positive] = 8
    """number of groups in which BatchNorm's statistics are taken, as many as the authors' GPUs; 1 takes the batch as
    one group. Several processes share each group, so each process's share of the batch must be a multiple of this
    number"""
    width: Annotated[int, Positive] = 128
    """width of the embedding"""
    hidden: Annotated[int, Positive] = 2048
    """width of the projector's hidden layers"""
    layers: Annotated[int, Count] = 2
    """number of layers in the projector, which has no BatchNorm"""
    view: views.AnyView = views.WEAK

    recipe = Recipe(
        encoder="resnet50",
        decode_factor=2.6,
        optimizer=SGD(lr=0.03, weight_decay=1e-4),
        scaling="linear",
        batch=256,
        epochs=200,
        decay_all=True,
    )
    small = Recipe(
        encoder="conv",
        optimizer=AdamW(lr=2e-3, weight_decay=1e-4),
        batch=256,
        epochs=20,
        warmup=2,
        hyperparameters=dict(
            momentum=0.99, queue=4096, symmetric=True, groups=1, hidden=512, view=replace(views.SIMCLR, crop=(0.2, 1.0))
        ),
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        widths = [encoder.width, *[self.hidden] * (self.layers - 1), self.width]
        net = Networks(encoder=encoder, projector=mlp(*widths, norm=False))
        net.teacher = teacher_of(net)
        net.queue = Queue(min(self.queue, facts.samples or self.queue), self.width)
        return net

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        first, second = self.view.input(batch, 0), self.view.input(batch, 1)
        pairs = [(first, second), (second, first)][: 1 + self.symmetric]
        queries = [
            gather(net.projector(views.ghost_batches(net.encoder, query, self.groups))) for query, _ in pairs
        ]  # (N, D) each
        keys = [self.keys(net.teacher, key, fold(clock.key, i)) for i, (_, key) in enumerate(pairs)]
        negatives = net.queue.embeddings  # (K, D)
        losses = [info_nce(q, k, negatives, self.temperature) for q, k in zip(queries, keys, strict=True)]
        yield Objective(
            torch.stack(losses).mean(),
            terms={"hardest_tenth": hardest_tenth(queries[0], negatives, self.temperature)},
            embedding=queries[0],
            positive=keys[0],
            pair=(first, second),
            trivial=log(1 + len(negatives)),
            negatives=len(negatives),
        )
        net.queue.push_(torch.cat(keys))
        follow_(net, self.momentum)

    @torch.no_grad()
    def keys(self, teacher: Networks, view: views.EncoderInput, key: int) -> Tensor:
        """Returns the teacher's embeddings from all processes, (N, D). BatchNorm normalizes them in groups that are
        drawn anew."""
        order = to_device(permutation(key, len(view.images) * world_size()), view.images.device)
        shuffled = view.select(lambda tensor: local_slice(gather(tensor)[order]))
        return gather(teacher.projector(views.ghost_batches(teacher.encoder, shuffled, self.groups)))[order.argsort()]
