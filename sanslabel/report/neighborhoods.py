"""Neighborhoods of pictures in a representation: neighbors, pairs, the unusual ones, and clusters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

NEIGHBORS = 8
"""neighbors of each picture on the page"""


class Nearest(NamedTuple):
    """The nearest other pictures of each picture."""

    index: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]
    """(n, k) int64, the nearest first"""
    distances: Tensor
    """(n, k) cosine distances: 0 for equal features, 1 for unrelated ones, 2 for opposite ones"""


class Cluster(NamedTuple):
    """Pictures that k-means puts together."""

    name: str
    size: int
    examples: Sequence[int]
    """the pictures nearest to its center"""
    commonest: str
    """the most common class and its share, or "" without classes"""


class Pair(NamedTuple):
    """Two pictures that are alike."""

    first: int
    second: int
    distance: float


def nearest(unit: Tensor, count: int = NEIGHBORS) -> Nearest:
    """Returns the nearest other pictures of each picture by cosine. unit: (n, D) of length 1."""
    count = min(count, len(unit) - 1)
    index, distances = [], []
    for begin in range(0, len(unit), 1024):
        cosine = unit[begin : begin + 1024] @ unit.T
        cosine[torch.arange(len(cosine)), begin + torch.arange(len(cosine))] = -2
        near = cosine.topk(count)
        index.append(near.indices)
        distances.append((1 - near.values).clamp(min=0))
    return Nearest(torch.cat(index), torch.cat(distances))


class Strip(NamedTuple):
    """A frame and the nearest frames of other moments."""

    frame: int
    nearest: Sequence[int]
    """the nearest first"""


def filmstrips(unit: Tensor, group: Tensor, time: Tensor, count: int, length: int, away: float) -> list[Strip]:
    """Returns up to `count` frames, evenly spaced among all, each with the nearest frames by cosine.

    unit: (n, D) of length 1; group, time: (n,), the clip of each frame and its seconds. Each of the `length` nearest is
    at least `away` seconds from the frame and from the others, if they are of one clip.
    """
    strips = []
    for frame in torch.linspace(0, len(unit) - 1, min(count, len(unit))).round().long().tolist():
        cosine = unit @ unit[frame]
        chosen = [frame]
        for _ in range(length):
            last = chosen[-1]
            cosine[(group == group[last]) & ((time - time[last]).abs() < away)] = -torch.inf
            cosine[last] = -torch.inf
            if cosine.max() == -torch.inf:
                break
            chosen.append(int(cosine.argmax()))
        strips.append(Strip(frame, chosen[1:]))
    return [strip for strip in strips if strip.nearest]


def most_unusual(near: Nearest, count: int) -> list[int]:
    """Returns the pictures that are farthest from their neighbors on average, the farthest first."""
    if not near.index.numel():
        return []
    return near.distances.mean(dim=1).argsort(descending=True, stable=True)[:count].tolist()


def most_alike(near: Nearest, count: int) -> list[Pair]:
    """Returns the pairs of different pictures with the smallest distances, the smallest first. A picture is in one
    pair."""
    if not near.index.numel():
        return []
    pairs: list[Pair] = []
    paired: set[int] = set()
    for first in near.distances[:, 0].argsort(stable=True).tolist():
        second = int(near.index[first, 0])
        if len(pairs) == count:
            break
        if first not in paired and second not in paired:
            pairs.append(Pair(min(first, second), max(first, second), float(near.distances[first, 0])))
            paired |= {first, second}
    return pairs


def clustered(
    unit: Tensor, labels: Sequence[str], count: int, examples: int, seed: int
) -> tuple[list[str], list[Cluster]]:
    """Returns the name of the cluster of each picture, and the clusters. The largest cluster is the first.

    unit: (n, D) of length 1. labels: the class of each picture, or "". count: clusters, at most. examples: pictures of
    each cluster, at most. The clusters are those of k-means, which needs scikit-learn.
    """
    from sklearn.cluster import KMeans

    distinct = len(unit.unique(dim=0))
    means = KMeans(min(count, distinct), random_state=seed).fit(unit.numpy())
    assigned, centers = torch.from_numpy(means.labels_).long(), torch.from_numpy(means.cluster_centers_)
    sizes = Counter(assigned.tolist())
    names, clusters = [""] * len(unit), []
    for position, (label, size) in enumerate(sizes.most_common(), 1):
        members = (assigned == label).nonzero()[:, 0]
        typical = members[(unit[members] - centers[label]).norm(dim=1).argsort(stable=True)[:examples]]
        commonest, frequency = Counter(labels[row] for row in members.tolist()).most_common(1)[0]
        share = f"{frequency / size:.0%} {commonest}" if commonest else ""
        clusters.append(Cluster(f"cluster {position}", size, typical.tolist(), share))
        for row in members.tolist():
            names[row] = f"cluster {position}"
    return names, clusters
