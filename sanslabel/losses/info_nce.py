from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, softplus

from sanslabel.losses.chunking import large
from sanslabel.losses.drawn_rows import cosines, with_shared
from sanslabel.losses.log_partition import log_partition, log_partition_of_drawn
from sanslabel.losses.precision import in_float32


@in_float32
def info_nce(
    query: Tensor, positive: Tensor, negatives: Tensor, temperature: float, drawn: Tensor | None = None
) -> Tensor:
    """Returns the cross-entropy of finding the positive among the positive and the negatives.

    query, positive: (N, D); negatives: (K, D), shared by all queries -> ().
    drawn: (N, K) int64, the rows of a bank that are each query's negatives, or (1, K), those of all queries.
    `negatives` is then the bank, (n, D), and gets no gradient. The N x K rows are never copied at once.
    A query with P positives has them in (N, P, D): each is compared with the negatives alone, and the mean is taken.
    ℓ(i) = -log [ exp(qᵢ·pᵢ/τ) / (exp(qᵢ·pᵢ/τ) + Σₖ exp(qᵢ·nₖ/τ)) ] of normalized vectors; the mean over i. ln(1 + K)
    if all are equal. He et al. 2020 (MoCo), eq. 1.
    """
    query = normalize(query, dim=1)
    near = cosines(query, positive)  # (N, 1) or (N, P)
    negatives, drawn = with_shared(negatives, drawn)
    if drawn is not None:
        far = log_partition_of_drawn(query, negatives, drawn, temperature)
        return softplus(far[:, None] - near / temperature).mean()
    if positive.ndim == 3 or large(len(query) * len(negatives), query.device):
        return softplus(log_partition(query, negatives, temperature)[:, None] - near / temperature).mean()
    logits = torch.cat([near, query @ normalize(negatives, dim=1).T], dim=1) / temperature  # (N, 1 + K)
    return cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.int64))
