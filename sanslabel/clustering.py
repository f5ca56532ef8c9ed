"""k-means on the sphere, and what is remembered of it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot

from sanslabel.randomness import permutation

CHUNK = 1 << 24
"""cosines of points with centroids that are held at a time, 64 MiB"""


class Clustering(NamedTuple):
    """Groups of points by direction."""

    centroids: Tensor
    """(K, D), of unit length"""
    assignments: Tensor
    """(n,) int64, the centroid of highest cosine; -1 for a point that is 0"""
    sizes: Tensor
    """(K,) int64, points of each centroid"""
    objective: Tensor
    """(), mean cosine of the points with their centroids"""


@torch.no_grad()
def spherical_kmeans(points: Tensor, count: int, key: int, iterations: int = 10) -> Clustering:
    """k-means by cosine (Dhillon and Modha 2001): in turns, each point joins the centroid of highest cosine, and each
    centroid becomes the direction of its points' sum. Neither lowers the objective. A centroid without points stays.

    points: (n, D), float32, of unit length, or 0 for a place that holds no point; count: K; key: chooses the K points
    that are the first centroids. The same bits in every call and process.
    """
    with torch.autocast(points.device.type, enabled=False):
        there = points.any(dim=1)  # (n,)
        order = permutation(key, len(points)).to(points.device)
        order = order[there[order].argsort(descending=True, stable=True)]  # the points before the empty places
        # With fewer points than centroids some start alike: the first of them takes the points.
        first = torch.arange(count, device=points.device) % there.sum().clamp(min=1)
        centroids = points[order[first]]  # (K, D)
        for _ in range(iterations):
            sums = _sums(points, _nearest(points, centroids)[1], count)
            length = sums.norm(dim=1, keepdim=True)
            centroids = torch.where(length > 0, sums / length.clamp(min=torch.finfo(sums.dtype).tiny), centroids)
        cosine, nearest = _nearest(points, centroids)
    assignments = torch.where(there, nearest, -1)
    sizes = assignments.new_zeros(count + 1).index_add_(0, assignments + 1, torch.ones_like(assignments))
    return Clustering(centroids, assignments, sizes[1:], cosine.sum() / there.sum().clamp(min=1))


def _nearest(points: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) the highest cosine of each point and the centroid that has it."""
    parts = [(part @ centroids.T).max(dim=1) for part in points.split(max(1, CHUNK // len(centroids)))]
    cosines, nearest = zip(*parts, strict=True)
    return torch.cat(cosines), torch.cat(nearest)


def _sums(points: Tensor, nearest: Tensor, count: int) -> Tensor:
    """(K, D), the sum of each centroid's points; places that hold none add zeros."""
    if points.device.type == "cpu":  # one after the other: 0.8 ms for 10,000 points, 30 by products with K = 500
        return points.new_zeros(count, points.shape[1]).index_add_(0, nearest, points)
    return _by_products(points, nearest, count)  # elsewhere adding is atomic, in an order that is up to chance


def _by_products(points: Tensor, nearest: Tensor, count: int) -> Tensor:
    sums = points.new_zeros(count, points.shape[1])
    for part, own in zip(*(x.split(max(1, CHUNK // count)) for x in (points, nearest)), strict=True):
        sums += one_hot(own, count).to(part.dtype).T @ part
    return sums


class Clusters(nn.Module):
    """The last clustering of all samples; no sample has a cluster at first.

    z: (N, D), normalized inside -> (N, K), cosines with the centroids, in float32 also under autocast.
    """

    centroids: Tensor
    assignments: Tensor
    sizes: Tensor

    def __init__(self, samples: int, width: int, count: int) -> None:
        super().__init__()
        self.register_buffer("centroids", torch.zeros(count, width))  # (K, D)
        self.register_buffer("assignments", torch.full((samples,), -1))  # (n,); -1 where the sample was never seen
        self.register_buffer("sizes", torch.zeros(count, dtype=torch.int64))  # (K,)

    def forward(self, z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            return normalize(z.to(self.centroids.dtype), dim=-1) @ self.centroids.T

    @torch.no_grad()
    def fit_(self, points: Tensor, key: int, iterations: int = 10) -> None:
        """Groups the samples anew. points: (n, D), a row of unit length for each, or of zeros if it was never seen."""
        found = spherical_kmeans(points, len(self.centroids), key, iterations)
        self.centroids.copy_(found.centroids)
        self.assignments.copy_(found.assignments)
        self.sizes.copy_(found.sizes)
