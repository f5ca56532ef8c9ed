"""SwAV: the prototypes that one crop is assigned to are predicted from the other crops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sanslabel import diagnostics, losses, views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.heads import Prototypes, mlp
from sanslabel.memory import Queue, ema_, teacher_of
from sanslabel.methods.method import Method, Networks, Objective
from sanslabel.optimizers import LARS, AdamW
from sanslabel.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class SwAV(Method):
    """Swapping assignments between views (Caron et al. 2020). Energy of a pair: the cross-entropy of one crop's code,
    its soft assignment to prototypes, with the other's prediction. Defaults are the authors' for batches of 4096."""

    family = "clustering"
    energy = "the cross-entropy of one crop's assignment with another's prediction"
    prevents_collapse = "Sinkhorn's scaling gives every prototype an equal part of the batch"
    paper = "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments"
    year = 2020
    needs = "multi-crop"
    positive = ("prototypes", "epsilon", "temperature", "iterations", "hidden", "width")

    prototypes: int = 3000
    """K; at most half the samples"""
    epsilon: float = 0.05
    """ε of codes: small makes them hard, large uniform"""
    temperature: float = 0.1
    """τ of predictions"""
    codes: Literal["sinkhorn", "softmax"] = "sinkhorn"
    """how scores become codes; softmax(scores / ε) looks at each sample by itself, and collapses"""
    iterations: int = 3
    """of Sinkhorn's scaling"""
    queue: int = 0
    """earlier embeddings, of each global crop, that take part in the scaling: 3840 for batches of 256"""
    queue_epoch: int = 15
    """the first in which the queue is used, if full"""
    frozen_epochs: float = 1.0
    """in which prototypes stay; 313 steps in the authors' code"""
    hidden: int = 2048
    """width of the projector's hidden layer"""
    width: int = 128
    """of the embedding"""
    teacher: float | None = None
    """momentum of a second encoder that codes come from; the paper has none"""
    view: views.MultiCrop = views.SWAV

    recipe = Recipe(
        encoder="resnet50",
        optimizer=LARS(lr=0.3, weight_decay=1e-6),
        scaling="linear",
        batch=4096,
        epochs=800,
        warmup=10,
        warmup_start=1 / 16,
        final_lr_factor=0.001,
        decay_all=True,
    )
    small = Recipe(
        optimizer=AdamW(lr=2e-3, weight_decay=1e-4),
        epochs=20,
        warmup=2,
        hyperparameters=dict(prototypes=200, epsilon=0.03, hidden=512, view=views.EASY),
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        widths = encoder.width, self.hidden, self.width
        net = Networks(encoder=encoder, projector=mlp(*widths, bias=True, final_bias=True))
        if self.teacher is not None:
            net.teacher = teacher_of(net)
        samples = facts.samples or max(self.queue, 2 * self.prototypes)
        net.prototypes = Prototypes(self.width, max(2, min(self.prototypes, samples // 2)))
        net.queues = nn.ModuleList([Queue(min(self.queue, samples), self.width) for _ in "ab" if self.queue])
        return net

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        crops = self.view.inputs(batch)  # V of (N, C, S, S)
        z = [
            gather(part)
            for part in net.projector(torch.cat(views.forward_by_size(net.encoder, crops))).chunk(len(crops))
        ]
        with torch.no_grad():
            targets = z[:2]
            if self.teacher is not None:
                embeddings = net.teacher.projector(torch.cat(views.forward_by_size(net.teacher.encoder, crops[:2])))
                targets = [gather(part) for part in embeddings.chunk(2)]
            codes = [self.code(net, target, crop, clock) for crop, target in enumerate(targets)]  # 2 of (N, K)
        scores = [net.prototypes(part, clock.epochs < self.frozen_epochs) / self.temperature for part in z]
        energies = [cross_entropy(s, q) for i, q in enumerate(codes) for v, s in enumerate(scores) if v != i]
        yield Objective(
            torch.stack(energies).mean(),
            terms={"usage": diagnostics.usage(torch.cat(codes))},
            embedding=z[0],
            positive=z[1],
            images={"first view": crops[0].images, "second view": crops[1].images, "last view": crops[-1].images},
            trivial=log(scores[0].shape[1]),
        )
        net.prototypes.normalize_()
        for queue, target in zip(net.queues, targets, strict=False):
            queue.push_(target)
        if self.teacher is not None:
            ema_(net.teacher, net, self.teacher)

    def code(self, net: Networks, z: Tensor, crop: int, clock: Clock) -> Tensor:
        """The assignment to prototypes, (N, K), of the embeddings (N, D) of a global crop."""
        if self.codes == "softmax":
            return (net.prototypes(z) / self.epsilon).softmax(dim=1)
        filled = self.queue > 0 and clock.step * len(z) >= len(net.queues[crop].rows)
        rows = torch.cat([net.queues[crop].rows, z]) if filled and clock.epoch >= self.queue_epoch else z
        return losses.sinkhorn(net.prototypes(rows), self.epsilon, self.iterations)[-len(z) :]
