"""Classification by the nearest neighbors of a frozen representation."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 1 << 25  # similarities held at once: 128 MiB in float32


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
    k, rows = min(k, len(train)), max(1, BLOCK // len(train))
    return torch.cat([_vote(block, labels, classes, k, temperature) for block in cosines(test, train, rows)])


def cosines(queries: Tensor, bank: Tensor, rows: int) -> Iterator[Tensor]:
    """(M, D) and (N, D) -> parts of the (M, N) cosines, `rows` of them at a time: rows of zeros have 0 with all."""
    bank = bank.float()
    scale = 1 / torch.linalg.vector_norm(bank, dim=1).clamp(min=1e-12)  # in place of a normalized copy of the bank
    for block in F.normalize(queries.float(), dim=1).split(rows):
        yield (block @ bank.T).mul_(scale)


def _vote(similarity: Tensor, labels: Tensor, classes: int, k: int, temperature: float) -> Tensor:
    """(m, N) cosines -> (m,) classes."""
    nearest, index = similarity.topk(min(k + 1, similarity.shape[1]), dim=1)
    if nearest.shape[1] > k:
        # topk leaves open which of several equal rows it takes. A stable sort does not, but is slow: only where needed.
        tied = (nearest[:, k - 1] == nearest[:, k]).nonzero()[:, 0]
        index[tied] = similarity[tied].argsort(dim=1, descending=True, stable=True)[:, : k + 1]
        nearest, index = nearest[:, :k], index[:, :k]
    # Relative to the nearest, so that no temperature overflows.
    weight = ((nearest - nearest[:, :1]) / temperature).exp()
    votes = weight.new_zeros(len(similarity), classes).scatter_add_(1, labels[index], weight)
    return votes.argmax(dim=1)
