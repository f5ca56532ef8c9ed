from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from sanslabel.losses.chunking import large
from sanslabel.losses.log_partition import log_partition_of_others
from sanslabel.losses.precision import in_float32


@in_float32
def nt_xent(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Returns the normalized, temperature-scaled cross-entropy of finding each row's partner among all other rows.

    a, b: (N, D), two views of the same N samples -> ().
    ℓ(i) = -s(i, j)/τ + log Σ_{k≠i} exp(s(i, k)/τ), s the cosine and j the partner of i; the mean over the 2N rows.
    ln(2N - 1) if all rows are equal. Chen et al. 2020, eq. 1.
    """
    z = normalize(torch.cat([a, b]), dim=1)  # (2N, D)
    if large(len(z) ** 2, z.device):
        near = (z * z.roll(len(a), dims=0)).sum(dim=1) / temperature
        return (log_partition_of_others(z, temperature) - near).mean()
    similarity = z @ z.T / temperature  # (2N, 2N)
    similarity.fill_diagonal_(float("-inf"))
    partner = torch.arange(len(z), device=z.device).roll(len(a))
    return cross_entropy(similarity, partner)
