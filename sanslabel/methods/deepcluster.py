"""DeepCluster: each crop of a sample predicts the cluster that the sample had after the last epoch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from math import log
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.clustering import Clusters
from sanslabel.constraints import Count, Fraction, Positive
from sanslabel.diagnostics import usage
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.errors import BadInput
from sanslabel.heads import mlp
from sanslabel.memory import Bank, add_teacher_, filling, follow_
from sanslabel.methods.method import Family, Method, Networks, Objective, Refused
from sanslabel.optimizers import LARS, AdamW
from sanslabel.randomness import fold
from sanslabel.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class DeepCluster(Method):
    """Deep clustering, second version (Caron et al. 2020, appendix B, after Caron et al. 2018). The energy of a crop is
    the cross-entropy of its prediction with its sample's cluster.

    At the end of each epoch, k-means groups the embeddings of that epoch; the first epoch only collects them. The
    centroids are the prototypes, and no gradient reaches them.

    Defaults are the authors' for 800 epochs of ImageNet, with four differences. The authors fill the memory before the
    first epoch, one crop at a time, and BatchNorm's running statistics follow. Here it takes the first epoch, with all
    crops together, and the statistics stay, since without a loss nothing refuses values that are not finite. A sample
    that an epoch leaves out keeps its last embedding and is clustered, to learn from it earlier; theirs has no cluster.
    LARS divides by the norm of gradient plus decay, theirs by the sum of both norms. At their decay of 1e-6, weights
    differ by 5e-5 after 20 steps. The blur of a local crop has a kernel of 9 pixels, a tenth of the crop as in SimCLR's
    code; theirs has no end."""

    family = Family.CLUSTERING
    energy = "the cross-entropy of a crop's prediction with its sample's cluster"
    prevents_collapse = "k-means makes a fixed number of clusters, and targets stay the same for an epoch"
    paper = "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments"
    year = 2020
    needs = "multi-crop and a memory of every sample"
    embeds_views = True

    clusters: Annotated[int, Positive] = 3000
    """K, number of clusters in each clustering; at most a quarter of the samples"""
    heads: Annotated[int, Count] = 3
    """number of clusterings, each with centroids of its own; they alternate between the first and second global crop"""
    iterations: Annotated[int, Positive] = 10
    """iterations of k-means"""
    temperature: Annotated[float, Positive] = 0.1
    """τ"""
    hidden: Annotated[int, Positive] = 2048
    """width of the projector's hidden layer"""
    width: Annotated[int, Positive] = 128
    """width of the embedding"""
    teacher_momentum: Annotated[float | None, Fraction] = None
    """momentum of a teacher whose embeddings are clustered; the paper has none"""
    view: views.AnyCrops = views.SWAV

    recipe = Recipe(
        encoder="resnet50",
        decode_factor=3.1,
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
        encoder="conv",
        optimizer=AdamW(lr=2e-3, weight_decay=1e-4),
        batch=256,
        epochs=20,
        warmup=2,
        hyperparameters=dict(clusters=200, hidden=512, view=views.EASY),
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        head = mlp(encoder.width, self.hidden, self.width, bias=True, final_bias=True)
        net = Networks(encoder=encoder, projector=head)
        add_teacher_(net, self.teacher_momentum)
        samples = facts.counted("deepcluster")
        count = max(2, min(self.clusters, samples // 4))
        banks = [Bank(samples, self.width) for _ in range(min(2, self.heads))]
        for bank in banks:
            bank.embeddings.zero_()  # zeros mark samples that no batch has contained yet; they have no cluster
        net.banks = nn.ModuleList(banks)
        net.clusters = nn.ModuleList(Clusters(samples, self.width, count) for _ in range(self.heads))
        return net

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        if clock.steps <= clock.steps_per_epoch:
            raise BadInput("DeepCluster only fills its memory in the first epoch; train for two or more (--epochs 2).")
        crops, index = self.view.inputs(batch), gather(batch.index)
        with filling(net) if clock.epoch == 0 else nullcontext():
            embeddings = net.projector(torch.cat(views.forward_by_size(net.encoder, crops)))  # (V N, D)
            z = remembered = [gather(embedding) for embedding in embeddings.chunk(len(crops))]  # V of (N, D)
            if self.teacher_momentum is not None:
                teacher = net.partner
                remembered = [gather(teacher.projector(teacher.encoder(*crop))) for crop in crops[: len(net.banks)]]
        with suppress(Refused):  # a refused step leaves nothing in the memory, and the epoch ends all the same
            if clock.epoch > 0:
                yield Objective(
                    self.loss(net, z, index),
                    terms={"usage": usage(net.clusters[0].sizes)},
                    embedding=z[0],
                    positive=z[1],
                    pair=(crops[0], crops[1]),
                    images={"last view": crops[-1].images},
                    trivial=log(len(net.clusters[0].centroids)),
                )
            for bank, embedding in zip(net.banks, remembered, strict=False):
                bank.write_(index, embedding.detach())
            follow_(net, self.teacher_momentum)
        if (clock.step + 1) % clock.steps_per_epoch == 0:
            self.cluster_(net, clock)

    def cluster_(self, net: Networks, clock: Clock) -> None:
        """Clusters the embeddings of this epoch, for the next."""
        for head, clusters in enumerate(net.clusters):
            points = net.banks[head % len(net.banks)].embeddings
            clusters.fit_(points, fold(clock.key, head), self.iterations)

    def loss(self, net: Networks, z: list[Tensor], index: Tensor) -> Tensor:
        """Returns the cross-entropy of predictions with clusters. It is the mean over clusterings, crops, and samples
        that have a cluster. z: V of (N, D); index: (N,) int64 -> ()."""
        clustered = (net.clusters[0].assignments[index] >= 0).sum()
        cross_entropies = [
            cross_entropy(
                clusters(embedding) / self.temperature,
                clusters.assignments[index],
                ignore_index=-1,
                reduction="sum",
            )
            for clusters in net.clusters
            for embedding in z
        ]
        return torch.stack(cross_entropies).mean() / clustered.clamp(min=1)
