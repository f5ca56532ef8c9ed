"""Classification by the nearest neighbors of a frozen representation."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 1 << 25
"""similarities held at once, 128 MiB in float32"""
ASKED = 256
"""queries that search one part of the bank after the other. If they saw all of it, 33 of them could be held before a
million rows, which would be read for each 33: the product would take 1.7 times as long."""


@torch.no_grad()
def predictions(
    train: Tensor, labels: Tensor, test: Tensor, *, classes: int, k: int = 20, temperature: float = 0.07
) -> Tensor:
    """The class with the largest Σ exp(cos / T) over the k nearest training rows by cosine, (M,) int64.

    train: (N, D), labels: (N,) in [0, classes), test: (M, D). A temperature of infinity is the plain majority vote. Of
    equally near rows the earlier ones count, of equal votes the lower class. k above N means all rows. Wu et al. 2018
    (NPID), section 3.4; Caron et al. 2021 (DINO) for k = 20, T = 0.07. Beside the features, which are not copied where
    they are float32, it holds 128 MiB of similarities at once.
    """
    k, bank = min(k, len(train)), train.float()
    scale = _inverse_lengths(bank)
    return torch.cat(
        [
            _vote(*_nearest(block, bank, scale, k), labels, classes, temperature)
            for block in F.normalize(test.float(), dim=1).split(ASKED)
        ]
    )


def _nearest(queries: Tensor, bank: Tensor, scale: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest cosines of each query and the rows that have them, (m, k), of equal ones the earlier first."""
    rows = max(1, BLOCK // ASKED)
    nearest, index = queries.new_empty(len(queries), 0), queries.new_empty(len(queries), 0, dtype=torch.int64)
    for begin in range(0, len(bank), rows):
        part = slice(begin, begin + rows)
        found, places = _largest((queries @ bank[part].T).mul_(scale[part]), k)  # no name keeps it beside the next one
        nearest, order = torch.cat([nearest, found], dim=1).sort(dim=1, descending=True, stable=True)
        index = torch.cat([index, begin + places], dim=1).gather(1, order)
        nearest, index = nearest[:, :k], index[:, :k]
    return nearest, index


def _largest(similarity: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row, or all, and their columns, of equal ones the earlier first."""
    nearest, index = similarity.topk(min(k + 1, similarity.shape[1]), dim=1)
    if nearest.shape[1] > k:
        # topk leaves open which of several equal rows it takes. A stable sort does not, but is slow: only where needed.
        tied = (nearest[:, k - 1] == nearest[:, k]).nonzero()[:, 0]
        for some in tied.split(max(1, BLOCK // 8 // similarity.shape[1])):
            index[some] = similarity[some].argsort(dim=1, descending=True, stable=True)[:, : k + 1]
    index = index[:, :k].sort(dim=1).values
    nearest, order = similarity.gather(1, index).sort(dim=1, descending=True, stable=True)
    return nearest, index.gather(1, order)


def cosines(queries: Tensor, bank: Tensor, rows: int) -> Iterator[Tensor]:
    """(M, D) and (N, D) -> parts of the (M, N) cosines, `rows` of them at a time: rows of zeros have 0 with all."""
    bank = bank.float()
    scale = _inverse_lengths(bank)
    for block in F.normalize(queries.float(), dim=1).split(rows):
        yield (block @ bank.T).mul_(scale)


def _inverse_lengths(bank: Tensor) -> Tensor:
    """(N,), in place of a normalized copy of the bank."""
    return 1 / torch.linalg.vector_norm(bank, dim=1).clamp(min=1e-12)


def _vote(nearest: Tensor, index: Tensor, labels: Tensor, classes: int, temperature: float) -> Tensor:
    """The largest cosines and their rows, (m, k) -> (m,) classes."""
    # Relative to the nearest, so that no temperature overflows.
    weight = ((nearest - nearest[:, :1]) / temperature).exp()
    votes = weight.new_zeros(len(nearest), classes).scatter_add_(1, labels[index], weight)
    return votes.argmax(dim=1)
