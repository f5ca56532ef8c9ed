"""The authors' step: k-means at the start of an epoch, cross-entropy with three clusterings, LARC on all weights."""

from dataclasses import replace
from math import cos, pi

import torch
from torch.nn.functional import cross_entropy, normalize

from sanslabel.methods.deepcluster import DeepCluster
from sanslabel.randomness import fold, permutation
from sanslabel.views import SWAV

SAMPLES, CROPS, CLUSTERS = 64, 4, 10
"""of the data, of a sample, and of each clustering"""


def test_deepcluster_trains_as_its_authors_train(side_by_side):
    view = replace(SWAV, local_crops=CROPS - 2)
    method = DeepCluster(clusters=CLUSTERS, hidden=32, width=16, view=view)

    def authors(net, method):
        weights = list(net.parameters())
        momenta = [torch.zeros_like(w) for w in weights]
        memories = [bank.embeddings for bank in net.banks]

        def cluster(memory, start, clusters):
            centroids = memory[start].clone()
            for turn in range(10 + 1):
                assigned = (memory @ centroids.T).argmax(dim=1)
                if turn < 10:
                    for k in assigned.unique():  # a cluster without samples keeps its centroid
                        centroids[k] = memory[assigned == k].mean(dim=0)
                    centroids = normalize(centroids, dim=1)
            clusters.centroids.copy_(centroids)
            clusters.assignments.copy_(assigned)
            clusters.sizes.copy_(assigned.bincount(minlength=CLUSTERS))

        def step(batch, clock):
            crops = [crop.images for crop in method.view.inputs(batch)]
            before = {name: b.clone() for name, b in net.named_buffers()}
            with torch.set_grad_enabled(clock.epoch > 0):
                maps = torch.cat([net.encoder(torch.cat(size)) for size in (crops[:2], crops[2:])])
                z = normalize(net.projector(maps), dim=1)
            if clock.epoch == 0:  # theirs fills the memory before epoch 0, and moves running statistics meanwhile
                for name, b in net.named_buffers():
                    b.copy_(before[name])
            else:
                targets = [clusters.assignments[batch.index].repeat(CROPS) for clusters in net.clusters]
                scores = [z @ clusters.centroids.T / 0.1 for clusters in net.clusters]
                loss = sum(cross_entropy(s, t) for s, t in zip(scores, targets, strict=True)) / 3
                wave = 0.001 + 0.999 * 0.5 * (1 + cos(pi * (clock.step - 6) / (20 - 6)))
                rate = 0.3 * 16 / 256 * (1 / 16 + 15 / 16 * (clock.step + 1) / 6 if clock.step < 6 else wave)
                with torch.no_grad():
                    for w, m, g in zip(weights, momenta, torch.autograd.grad(loss, weights), strict=True):
                        g = g + 1e-6 * w
                        trust = 1e-3 * w.norm() / g.norm() if w.any() else 1.0  # theirs: / (|g| + 1e-6 |w| + 1e-8)
                        m.mul_(0.9).add_(trust * g)
                        w.sub_(rate * m)
            for memory, embedding in zip(memories, z.detach().chunk(CROPS), strict=False):
                memory[batch.index] = embedding
            if clock.step % 4 == 3:  # theirs: at the start of the next epoch
                for head, clusters in enumerate(net.clusters):
                    start = permutation(fold(clock.key, head), SAMPLES)[:CLUSTERS]  # as drawn, like views
                    cluster(memories[head % 2], start, clusters)

        return step

    deviation = "epoch 0 fills the memory, warm-up a step ahead, LARC's ratio by the norm of gradient plus decay"
    side_by_side(method, DeepCluster.recipe, authors, image_size=16, warmup=1.5, deviation=deviation)
