"""Samples that are near each other in two banks, and draws that leave out some samples."""

from __future__ import annotations

import torch
from torch import Tensor

from sanslabel.randomness import integers

CHUNK = 1 << 24
"""cosines that are computed at a time, 64 MiB"""


@torch.no_grad()
def consensus(a: Tensor, b: Tensor, count: int) -> Tensor:
    """Returns for each sample the `count` other samples with the largest consensus, (n, count) int64, in ascending
    order.

    The consensus of two samples is the smaller one of their cosines in both banks: both signals must agree. Morgado et
    al. 2021, section 4.

    a, b: (n, D), the embeddings of the same samples in two banks, of unit length. `count` is below n.
    """
    nearest = []
    with torch.autocast(a.device.type, enabled=False):
        for start in range(0, len(a), step := max(1, CHUNK // len(a))):
            chunk = slice(start, start + step)
            agreed = torch.minimum(a[chunk] @ a.T, b[chunk] @ b.T)
            agreed.diagonal(start).fill_(-torch.inf)
            nearest.append(agreed.topk(count, dim=1).indices.sort(dim=1).values)
    return torch.cat(nearest)


def integers_without(key: Tensor, count: int, high: int, excluded: Tensor, stream: int) -> Tensor:
    """Returns draws of integers, (N,) keys -> (N, count) int64, uniform in [0, high) without the excluded ones of each
    key.

    excluded: (N, M) int64, different numbers in ascending order, fewer than `high`.
    """
    draws = integers(key, count, high - excluded.shape[1], stream)  # ranks among the numbers that remain
    below = excluded - torch.arange(excluded.shape[1], device=excluded.device)  # remaining numbers below each excluded
    return draws + torch.searchsorted(below, draws, right=True)
