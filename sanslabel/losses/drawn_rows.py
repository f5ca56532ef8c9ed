"""Scores of queries with rows of a bank that are drawn for each query by itself.

The N x K rows are never copied at once. For 128 queries and 4,096 rows of 128 numbers, a copy has 256 MiB, and a loss
over it takes 300 ms; in chunks it takes 58 ms.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sanslabel.losses.chunking import chunk_size

Sum = Callable[[Tensor], tuple[Tensor, Tensor]]
"""a function of scores (n, K) that returns a value for each query, (n,), and its derivative by each score, (n, K)"""


def with_shared(negatives: Tensor, drawn: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Returns the arguments of a loss with rows that all queries share, (1, K), taken from the bank: negatives (K, D)
    and None. Other arguments are returned as they are."""
    if drawn is not None and len(drawn) == 1:
        return negatives[drawn[0]], None
    return negatives, drawn


def cosines(query: Tensor, positive: Tensor) -> Tensor:
    """Returns the cosines of queries and their positives: (N, D), of unit length, and (N, D) or (N, P, D), normalized
    inside -> (N, 1) or (N, P)."""
    if positive.ndim == 2:
        return (query * normalize(positive, dim=1)).sum(dim=1, keepdim=True)
    return (query[:, None] * normalize(positive, dim=2)).sum(dim=2)


def sum_over_drawn(query: Tensor, bank: Tensor, drawn: Tensor, temperature: float, total: Sum) -> Tensor:
    """Returns the value of `total` for the scores q·m/τ of each query and its rows of the bank.

    query: (N, D), of unit length; bank: (n, D), normalized inside, without a gradient; drawn: (N, K) int64, the rows of
    each query -> (N,).
    """
    return _SumOverDrawn.apply(query, bank, drawn, temperature, total)  # pyright: ignore[reportReturnType]


class _SumOverDrawn(torch.autograd.Function):
    """The gradient is computed along with the values, while the rows are in the cache."""

    @staticmethod
    def forward(ctx, query: Tensor, bank: Tensor, drawn: Tensor, temperature: float, total: Sum) -> Tensor:
        lengths = torch.linalg.vector_norm(bank, dim=1).clamp(min=1e-12)  # (n,)
        queries = max(1, chunk_size(bank.device) // (drawn.shape[1] * bank.shape[1]))
        values, slopes = [], []
        for q, index in zip((query / temperature).split(queries), drawn.split(queries), strict=True):
            negatives = bank.index_select(0, index.flatten()).unflatten(0, index.shape)  # (n, K, D)
            length = lengths[index]  # (n, K)
            value, slope = total((negatives @ q[:, :, None])[:, :, 0] / length)
            values.append(value)
            slopes.append(((slope / length)[:, None] @ negatives)[:, 0])
        ctx.save_for_backward(torch.cat(slopes) / temperature)
        return torch.cat(values)

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        (slopes,) = ctx.saved_tensors
        return gradients[0][:, None] * slopes, None, None, None, None
