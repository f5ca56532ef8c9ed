from __future__ import annotations

from math import log

import torch
from torch import Tensor

from sanslabel.losses.precision import in_float32


@in_float32
@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Soft assignments of samples to prototypes that use all prototypes alike (Sinkhorn and Knopp's scaling).

    scores: (N, K) -> (N, K), rows sum to 1, columns to about N/K, exactly so in the limit of many iterations.
    Q = diag(u) exp(S/ε) diag(v), first the columns scaled to N/K, then the rows to 1, in turns. Uniform where all rows
    are equal. A small ε makes assignments hard. Caron et al. 2020 (SwAV), eq. 3-5 and appendix A.
    """
    n, k = scores.shape
    # Only the two scaling vectors change, and only their logarithms: exp(-2/ε) is 0 in float32 from ε = 0.02 down.
    log_q = scores / epsilon
    log_u = log_q.new_zeros(n, 1)
    log_v = log_q.new_zeros(1, k)
    for _ in range(iterations):
        log_v = -torch.logsumexp(log_q + log_u, dim=0, keepdim=True) - log(k)
        log_u = -torch.logsumexp(log_q + log_v, dim=1, keepdim=True) - log(n)
    return (log_q + log_v).softmax(dim=1)  # n diag(u) exp(S/ε) diag(v)
