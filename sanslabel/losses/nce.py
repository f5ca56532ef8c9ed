from __future__ import annotations

from math import log

import torch
from torch import Tensor
from torch.nn.functional import normalize, softplus

from sanslabel.losses.drawn_rows import cosines, sum_over_drawn, with_shared
from sanslabel.losses.log_partition import log_partition, log_partition_of_drawn
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
    A query with P positives has them in (N, P, D), and the mean of their terms is taken.
    drawn: (N, K) int64, the rows of the bank that are each query's negatives, or (1, K), those of all queries.
    `negatives` is then the bank, (n, D), and gets no gradient. The N x K rows are never copied at once.
    P(m) = exp(q·m/τ)/Z, h(m) = P(m) / (P(m) + K/n); the mean over queries of -log h(pos) - Σ_K log(1 - h(neg)).
    ln(1 + K) + K ln(1 + 1/K) if every P is 1/n. Wu et al. 2018 (NPID), eq. 4-8.
    """
    query = normalize(query, dim=1)
    negatives, drawn = with_shared(negatives, drawn)
    count = negatives.shape[-2] if drawn is None else drawn.shape[1]  # K
    # h(m) is the sigmoid of q·m/τ - ln Z - ln K/n.
    even = torch.as_tensor(normalizer, dtype=query.dtype, device=query.device).log() + log(count / samples)
    of_positive = softplus(even - cosines(query, positive) / temperature).mean(dim=1)  # (N,), -log h(pos)
    if drawn is not None:

        def total(scores: Tensor) -> tuple[Tensor, Tensor]:
            margin = scores - even
            return softplus(margin).sum(dim=1), margin.sigmoid()

        of_negatives = sum_over_drawn(query, negatives, drawn, temperature, total)
    else:
        form, unit = "nd,nkd->nk" if negatives.ndim == 3 else "nd,kd->nk", normalize(negatives, dim=-1)
        far = torch.einsum(form, query / temperature, unit)  # (N, K)
        of_negatives = softplus(far - even).sum(dim=1)  # (N,), -Σ_K log(1 - h(neg))
    return (of_positive + of_negatives).mean()


@torch.no_grad()
@in_float32
def partition(
    query: Tensor,
    positive: Tensor,
    negatives: Tensor,
    temperature: float,
    samples: int,
    drawn: Tensor | None = None,
) -> Tensor:
    """Returns Z as the authors' code estimates it: n times the mean of exp(q·m/τ) over all queries, each with its
    positive and its K negatives. Arguments are those of `nce`; shared negatives are (K, D) -> (), without a gradient.

    For a random bank of unit length in many dimensions it is about n exp(1/(2 D τ²)). Wu et al. 2018 (NPID), eq. 6.
    """
    query, positive = normalize(query, dim=1), normalize(positive, dim=1)
    negatives, drawn = with_shared(negatives, drawn)
    near = (query * positive).sum(dim=1) / temperature  # (N,)
    if drawn is None:
        far, count = log_partition(query, negatives, temperature), len(negatives)
    else:
        far, count = log_partition_of_drawn(query, negatives, drawn, temperature), drawn.shape[1]
    return torch.logaddexp(near, far).exp().mean() * (samples / (1 + count))


@torch.no_grad()
@in_float32
def mean_exponential(query: Tensor, bank: Tensor, temperature: float, drawn: Tensor) -> Tensor:
    """Returns the mean of exp(q·m/τ) over all queries and the negatives of each, without its positive.

    query: (N, D); bank: (n, D), both normalized inside; drawn: (N, K) int64, the rows of the bank that are each query's
    negatives -> (). For a random bank in many dimensions it is about exp(1/(2 D τ²)). n times this mean is the Z that
    AVID's authors have in `nce`.
    """
    total = log_partition_of_drawn(normalize(query, dim=1), bank, drawn, temperature)  # (N,)
    return total.exp().mean() / drawn.shape[1]


def chance(negatives: int) -> float:
    """Returns ln(1 + K) + K ln(1 + 1/K), the value of `nce` if every P is 1/n."""
    return log(1 + negatives) + negatives * log(1 + 1 / negatives)
