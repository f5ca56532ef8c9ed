from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, softplus

from sanslabel.losses.chunking import large
from sanslabel.losses.log_partition import log_partition
from sanslabel.losses.precision import in_float32


@in_float32
def info_nce(query: Tensor, positive: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Returns the cross-entropy of finding the positive among the positive and the negatives.

    query, positive: (N, D); negatives: (K, D), shared by all queries -> ().
    ℓ(i) = -log [ exp(qᵢ·pᵢ/τ) / (exp(qᵢ·pᵢ/τ) + Σₖ exp(qᵢ·nₖ/τ)) ] of normalized vectors; the mean over i. ln(1 + K)
    if all are equal. He et al. 2020 (MoCo), eq. 1.
    """
    query, positive = normalize(query, dim=1), normalize(positive, dim=1)
    near = (query * positive).sum(dim=1, keepdim=True)  # (N, 1)
    if large(len(query) * len(negatives), query.device):
        return softplus(log_partition(query, negatives, temperature) - near[:, 0] / temperature).mean()
    logits = torch.cat([near, query @ normalize(negatives, dim=1).T], dim=1) / temperature  # (N, 1 + K)
    return cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.int64))
