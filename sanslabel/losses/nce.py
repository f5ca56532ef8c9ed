from __future__ import annotations

from math import log

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sanslabel.losses.precision import in_float32


@in_float32
def nce(
    query: Tensor, positive: Tensor, negatives: Tensor, temperature: float, samples: int, normalizer: Tensor | float
) -> Tensor:
    """Noise-contrastive estimation: each vector is told to be the query's own or one drawn by chance.

    query, positive: (N, D); negatives: (K, D), shared, or (N, K, D), all normalized inside; samples: n, of the bank
    that the K negatives are drawn from uniformly; normalizer: Z, in the place of Σ_bank exp(q·m/τ) -> ().
    P(m) = exp(q·m/τ)/Z, h(m) = P(m) / (P(m) + K/n); the mean over queries of -log h(pos) - Σ_K log(1 - h(neg)).
    ln(1 + K) + K ln(1 + 1/K) where every P is 1/n. Wu et al. 2018 (NPID), eq. 4-8.
    """
    query, positive, negatives = (normalize(x, dim=-1) for x in (query, positive, negatives))
    near = (query * positive).sum(dim=1) / temperature  # (N,)
    far = torch.einsum("nd,nkd->nk" if negatives.ndim == 3 else "nd,kd->nk", query, negatives) / temperature
    noise = near.new_tensor(log(far.shape[1] / samples))  # ln K/n
    log_z = torch.as_tensor(normalizer, dtype=near.dtype, device=near.device).log()
    own = torch.logaddexp(near - log_z, noise) - (near - log_z)  # -log h(pos)
    chance = torch.logaddexp(far - log_z, noise) - noise  # -log(1 - h(neg))
    return (own + chance.sum(dim=1)).mean()


def chance(negatives: int) -> float:
    """ln(1 + K) + K ln(1 + 1/K): what `nce` is where every P is 1/n."""
    return log(1 + negatives) + negatives * log(1 + 1 / negatives)
