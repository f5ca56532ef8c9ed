"""k-means on the sphere, and the memory of its last clusters."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot

from sanslabel.randomness import permutation

CHUNK = 1 << 24
"""cosines of points with centroids that are computed at a time, 64 MiB"""


class Clustering(NamedTuple):
    """Groups of points by direction."""

    centroids: Tensor
    """(K, D), of unit length"""
    assignments: Tensor
    """(n,) int64, the centroid of highest cosine; -1 for a point of zeros"""
    sizes: Tensor
    """(K,) int64, points of each centroid"""
    objective: Tensor
    """(), mean cosine of the points with their centroids"""


@torch.no_grad()
def spherical_kmeans(points: Tensor, count: int, key: int, iterations: int = 10) -> Clustering:
    """Returns clusters by k-means with cosines (Dhillon and Modha 2001). In turns, each point joins the centroid of
    highest cosine, and each centroid becomes the direction of its points' sum. Neither step lowers the objective. A
    centroid without points stays where it is.

    points: (n, D), float32, of unit length; rows of zeros are not counted as points. count: K; key: chooses the K
    points that are the first centroids. The result has the same bits in every call and process.
    """
    with torch.autocast(points.device.type, enabled=False):
        present = points.any(dim=1)  # (n,)
        order = permutation(key, len(points)).to(points.device)
        order = order[present[order].argsort(descending=True, stable=True)]  # the points before the zeros
        # With fewer points than centroids, some centroids are equal: the first of them takes the points.
        first = torch.arange(count, device=points.device) % present.sum().clamp(min=1)
        centroids = points[order[first]]  # (K, D)
        for _ in range(iterations):
            sums = _sums(points, _nearest(points, centroids)[1], count)
            length = sums.norm(dim=1, keepdim=True)
            centroids = torch.where(length > 0, sums / length.clamp(min=torch.finfo(sums.dtype).tiny), centroids)
        cosine, nearest = _nearest(points, centroids)
    assignments = torch.where(present, nearest, -1)
    sizes = assignments.new_zeros(count + 1).index_add_(0, assignments + 1, torch.ones_like(assignments))
    return Clustering(centroids, assignments, sizes[1:], cosine.sum() / present.sum().clamp(min=1))


def _nearest(points: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the highest cosine of each point, (n,), and the centroid that has it, (n,)."""
    chunks = [(chunk @ centroids.T).max(dim=1) for chunk in points.split(max(1, CHUNK // len(centroids)))]
    cosines, nearest = zip(*chunks, strict=True)
    return torch.cat(cosines), torch.cat(nearest)


def _sums(points: Tensor, nearest: Tensor, count: int) -> Tensor:
    """Returns the sum of each centroid's points, (K, D)."""
    if points.device.type == "cpu":  # in order: 0.8 ms for 10,000 points; products with K = 500 take 30 ms
        return points.new_zeros(count, points.shape[1]).index_add_(0, nearest, points)
    return _by_products(points, nearest, count)  # elsewhere `index_add_` is atomic, in a random order


def _by_products(points: Tensor, nearest: Tensor, count: int) -> Tensor:
    sums = points.new_zeros(count, points.shape[1])
    for chunk, centroid in zip(*(x.split(max(1, CHUNK // count)) for x in (points, nearest)), strict=True):
        sums += one_hot(centroid, count).to(chunk.dtype).T @ chunk
    return sums


class Clusters(nn.Module):
    """The last clustering of all samples; at first no sample has a cluster.

    z: (N, D), normalized inside -> (N, K), cosines with the centroids, in float32 also under autocast.
    """

    centroids: Tensor
    assignments: Tensor
    sizes: Tensor

    def __init__(self, samples: int, width: int, count: int) -> None:
        super().__init__()
        self.register_buffer("centroids", torch.zeros(count, width))  # (K, D)
        self.register_buffer("assignments", torch.full((samples,), -1))  # (n,); -1 without a cluster
        self.register_buffer("sizes", torch.zeros(count, dtype=torch.int64))  # (K,)

    def forward(self, z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            return normalize(z.to(self.centroids.dtype), dim=-1) @ self.centroids.T

    @torch.no_grad()
    def fit_(self, points: Tensor, key: int, iterations: int = 10) -> None:
        """Replaces the clusters by those of k-means. points: (n, D), a vector of unit length for each sample, or zeros
        for a sample that gets no cluster."""
        clustering = spherical_kmeans(points, len(self.centroids), key, iterations)
        self.centroids.copy_(clustering.centroids)
        self.assignments.copy_(clustering.assignments)
        self.sizes.copy_(clustering.sizes)
