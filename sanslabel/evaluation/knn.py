"""Classification by the nearest neighbors, with exact search."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 1 << 25
"""similarities that are in memory at once, 128 MiB in float32"""
QUERIES = 256
"""queries that are searched together, in one block of the bank after the other. If they searched a bank of a million
rows at once, 33 queries would fill BLOCK. The bank would be read again for every 33 queries, and the product would take
1.7 times as long."""


@torch.no_grad()
def predictions(
    train: Tensor, labels: Tensor, test: Tensor, *, classes: int, k: int = 20, temperature: float = 0.07
) -> Tensor:
    """Returns the class with the largest Σ exp(cos / T) over the k nearest training samples by cosine, (M,) int64.

    train: (N, D), labels: (N,) in [0, classes), test: (M, D). An infinite temperature is the plain majority vote. Among
    equally near samples the earlier ones count; among equal votes the lower class wins. If k is above N, all samples
    vote. Wu et al. 2018 (NPID), section 3.4; Caron et al. 2021 (DINO) for k = 20, T = 0.07. 128 MiB of similarities are
    in memory at once. Features in float32 are not copied.
    """
    k, bank = min(k, len(train)), train.float()
    scale = _inverse_lengths(bank)
    return torch.cat(
        [
            _vote(*_nearest(block, bank, scale, k), labels, classes, temperature)
            for block in F.normalize(test.float(), dim=1).split(QUERIES)
        ]
    )


def _nearest(queries: Tensor, bank: Tensor, scale: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Returns the k largest cosines of each query and their positions in the bank, (m, k). Among equal cosines the
    earlier position comes first."""
    length = max(1, BLOCK // QUERIES)
    nearest, index = queries.new_empty(len(queries), 0), queries.new_empty(len(queries), 0, dtype=torch.int64)
    for begin in range(0, len(bank), length):
        block = slice(begin, begin + length)
        # No variable holds the similarities, so they are freed before the next block.
        largest, columns = _largest((queries @ bank[block].T).mul_(scale[block]), k)
        nearest, order = torch.cat([nearest, largest], dim=1).sort(dim=1, descending=True, stable=True)
        index = torch.cat([index, begin + columns], dim=1).gather(1, order)
        nearest, index = nearest[:, :k], index[:, :k]
    return nearest, index


def _largest(similarity: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Returns the k largest entries of each row, or all, and their columns. Among equal entries the earlier comes
    first."""
    nearest, index = similarity.topk(min(k + 1, similarity.shape[1]), dim=1)
    if nearest.shape[1] > k:
        # topk may take any of several equal entries. A stable sort takes the first, but is slow: it sorts tied rows
        # only.
        tied = (nearest[:, k - 1] == nearest[:, k]).nonzero()[:, 0]
        for block in tied.split(max(1, BLOCK // 8 // similarity.shape[1])):
            index[block] = similarity[block].argsort(dim=1, descending=True, stable=True)[:, : k + 1]
    index = index[:, :k].sort(dim=1).values
    nearest, order = similarity.gather(1, index).sort(dim=1, descending=True, stable=True)
    return nearest, index.gather(1, order)


def cosines(queries: Tensor, bank: Tensor, count: int) -> Iterator[Tensor]:
    """Yields blocks of the cosines (M, N) of (M, D) and (N, D), `count` queries at a time. The cosine of a vector of
    zeros is 0."""
    bank = bank.float()
    scale = _inverse_lengths(bank)
    for block in F.normalize(queries.float(), dim=1).split(count):
        yield (block @ bank.T).mul_(scale)


def _inverse_lengths(bank: Tensor) -> Tensor:
    """Returns 1 / length of each vector, (N,), which takes less memory than a normalized copy of the bank."""
    return 1 / torch.linalg.vector_norm(bank, dim=1).clamp(min=1e-12)


def _vote(nearest: Tensor, index: Tensor, labels: Tensor, classes: int, temperature: float) -> Tensor:
    """Returns the class with the most votes, (m,), from the largest cosines and their positions, (m, k) each."""
    # Cosines are taken relative to the nearest, so that no temperature makes the exponential overflow.
    weight = ((nearest - nearest[:, :1]) / temperature).exp()
    votes = weight.new_zeros(len(nearest), classes).scatter_add_(1, labels[index], weight)
    return votes.argmax(dim=1)
