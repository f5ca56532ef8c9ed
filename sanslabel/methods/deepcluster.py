"""DeepCluster: every crop of a sample must name the cluster that the sample fell into in the last epoch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from math import log

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.clustering import Clusters
from sanslabel.diagnostics import usage
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.errors import BadInput
from sanslabel.heads import mlp
from sanslabel.memory import Bank, ema_, filling, teacher_of
from sanslabel.methods.method import Method, Networks, Objective
from sanslabel.optimizers import LARS, AdamW
from sanslabel.randomness import fold
from sanslabel.recipe import Recipe

SMALL = dict(clusters=200, hidden=512, view=views.EASY)


@dataclass(frozen=True, kw_only=True)
class DeepCluster(Method):
    """Deep clustering, second version (Caron et al. 2020, appendix B, after Caron et al. 2018). Energy of a crop: the
    cross-entropy of its prediction with its sample's cluster. The embeddings of an epoch are grouped by k-means at its
    end; the first epoch is for these alone. The centroids are the prototypes, and no gradient reaches them."""

    family = "clustering"
    energy = "the cross-entropy of a crop's prediction with its sample's cluster"
    prevents_collapse = "k-means finds as many clusters as it is asked for, and targets hold for an epoch"
    paper = "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments"
    year = 2020
    needs = "multi-crop and a memory of every sample"
    positive = ("clusters", "heads", "iterations", "temperature", "hidden", "width")

    clusters: int = 3000
    """K of each clustering; at most a quarter of the samples"""
    heads: int = 3
    """clusterings, in turns of the first and second global crop's embeddings, each from centroids of its own"""
    iterations: int = 10
    """of k-means"""
    temperature: float = 0.1
    """τ"""
    hidden: int = 2048
    """width of the projector's hidden layer"""
    width: int = 128
    """of the embedding"""
    teacher: float | None = None
    """momentum of a second encoder whose embeddings are clustered; the paper has none"""
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
    small = Recipe(optimizer=AdamW(lr=2e-3, weight_decay=1e-4), epochs=20, warmup=2, hyperparameters=SMALL)

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        head = mlp(encoder.width, self.hidden, self.width, bias=True, final_bias=True)
        net = Networks(encoder=encoder, projector=head)
        if self.teacher is not None:
            net.teacher = teacher_of(net)
        samples = facts.counted("deepcluster")
        count = max(2, min(self.clusters, samples // 4))
        banks = [Bank(samples, self.width) for _ in range(min(2, self.heads))]
        for bank in banks:
            bank.rows.zero_()  # tells samples that were never seen, which belong to no cluster
        net.banks = nn.ModuleList(banks)
        net.clusters = nn.ModuleList(Clusters(samples, self.width, count) for _ in range(self.heads))
        return net

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        if clock.steps <= clock.steps_per_epoch:
            raise BadInput("DeepCluster only fills its memory in the first epoch; give 2 or more (--epochs 2).")
        crops, index = self.view.inputs(batch), gather(batch.index)
        with filling(net) if clock.epoch == 0 else nullcontext():
            embeddings = net.projector(torch.cat(views.forward_by_size(net.encoder, crops)))  # (V N, D)
            z = kept = [gather(part) for part in embeddings.chunk(len(crops))]  # V of (N, D)
            if self.teacher is not None:
                kept = [gather(net.teacher.projector(net.teacher.encoder(*crop))) for crop in crops[: len(net.banks)]]
        if clock.epoch > 0:
            known = (net.clusters[0].assignments[index] >= 0).sum()
            energies = [
                cross_entropy(
                    clusters(part) / self.temperature, clusters.assignments[index], ignore_index=-1, reduction="sum"
                )
                for clusters in net.clusters
                for part in z
            ]
            yield Objective(
                torch.stack(energies).mean() / known.clamp(min=1),
                terms={"usage": usage(net.clusters[0].sizes)},
                embedding=z[0],
                positive=z[1],
                images={"first view": crops[0].images, "second view": crops[1].images, "last view": crops[-1].images},
                trivial=log(len(net.clusters[0].centroids)),
            )
        for bank, part in zip(net.banks, kept, strict=False):
            bank.write_(index, part.detach())
        if self.teacher is not None:
            ema_(net.teacher, net, self.teacher)
        if (clock.step + 1) % clock.steps_per_epoch == 0:
            for head, clusters in enumerate(net.clusters):
                points = net.banks[head % len(net.banks)].rows
                clusters.fit_(points, fold(clock.key, head), self.iterations)
