from __future__ import annotations

from math import log

import torch
from torch import Tensor
from torch.nn.functional import normalize, softplus

from sanslabel.losses.chunking import chunk_size
from sanslabel.losses.precision import in_float32


@in_float32
def nce(
    query: Tensor,
    positive: Tensor,
    negatives: Tensor,
    temperature: float,
    samples: int,
    normalizer: Tensor | float,
    drawn: Tensor | None = None,
) -> Tensor:
    """Returns the loss of noise-contrastive estimation: each vector is classified as the query's positive, or as drawn
    by chance.

    query, positive: (N, D); negatives: (K, D), shared, or (N, K, D), all normalized inside; samples: n, the size of the
    bank that the K negatives are drawn from uniformly; normalizer: Z, a constant in place of Σ_bank exp(q·m/τ) -> ().
    drawn: (N, K) int64, the rows of the bank that are each query's negatives. `negatives` is then the bank, (n, D), and
    gets no gradient. The N x K rows are never copied at once.
    P(m) = exp(q·m/τ)/Z, h(m) = P(m) / (P(m) + K/n); the mean over queries of -log h(pos) - Σ_K log(1 - h(neg)).
    ln(1 + K) + K ln(1 + 1/K) if every P is 1/n. Wu et al. 2018 (NPID), eq. 4-8.
    """
    query, positive = normalize(query, dim=1), normalize(positive, dim=1)
    count = negatives.shape[-2] if drawn is None else drawn.shape[1]  # K
    # h(m) is the sigmoid of q·m/τ - ln Z - ln K/n.
    even = torch.as_tensor(normalizer, dtype=query.dtype, device=query.device).log() + log(count / samples)
    of_positive = softplus(even - (query * positive).sum(dim=1) / temperature)  # (N,), -log h(pos)
    if drawn is not None:
        of_negatives = _Drawn.apply(query, negatives, drawn, temperature, even.detach())
    else:
        form, unit = "nd,nkd->nk" if negatives.ndim == 3 else "nd,kd->nk", normalize(negatives, dim=-1)
        far = torch.einsum(form, query / temperature, unit)  # (N, K)
        of_negatives = softplus(far - even).sum(dim=1)  # (N,), -Σ_K log(1 - h(neg))
    return (of_positive + of_negatives).mean()


def chance(negatives: int) -> float:
    """Returns ln(1 + K) + K ln(1 + 1/K), the value of `nce` if every P is 1/n."""
    return log(1 + negatives) + negatives * log(1 + 1 / negatives)


class _Drawn(torch.autograd.Function):
    """Σ_K softplus(q·m/τ - even) over each query's rows of the bank. The gradient is computed along with the sum, while
    the rows are in the cache. For 128 queries and 4,096 rows of 128 numbers, a copy of all rows has 256 MiB and takes
    300 ms; this function takes 58 ms."""

    @staticmethod
    def forward(ctx, query: Tensor, bank: Tensor, drawn: Tensor, temperature: float, even: Tensor) -> Tensor:
        lengths = torch.linalg.vector_norm(bank, dim=1).clamp(min=1e-12)  # (n,)
        queries = max(1, chunk_size(bank.device) // (drawn.shape[1] * bank.shape[1]))
        sums, slopes = [], []
        for q, index in zip((query / temperature).split(queries), drawn.split(queries), strict=True):
            negatives = bank.index_select(0, index.flatten()).unflatten(0, index.shape)  # (n, K, D)
            length = lengths[index]  # (n, K)
            scores = (negatives @ q[:, :, None])[:, :, 0] / length - even
            sums.append(softplus(scores).sum(dim=1))
            slopes.append(((scores.sigmoid() / length)[:, None] @ negatives)[:, 0])
        ctx.save_for_backward(torch.cat(slopes) / temperature)
        return torch.cat(sums)

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        (slopes,) = ctx.saved_tensors
        return gradients[0][:, None] * slopes, None, None, None, None
