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
    if iterations == 0:
        return log_q.softmax(dim=1)
    log_v = -torch.logsumexp(log_q, dim=0, keepdim=True) - log(k)  # (1, K)
    log_u = -torch.logsumexp(log_q + log_v, dim=1, keepdim=True) - log(n)  # (N, 1)
    q = torch.empty_like(log_q)
    for _ in range(iterations - 1):
        # Once scaled, no row or column of Q is lost: where rows sum to 1/N, a column that summed to 1/K before has at
        # least 1/KN². So one exponential without a maximum does for both halves of an iteration.
        torch.add(log_q, log_u, out=q).add_(log_v).exp_()  # rows sum to 1/N
        columns = k * q.sum(dim=0)  # (K,), 1 each in the limit
        rows = n * (q @ columns.reciprocal())  # (N,), likewise
        log_v -= columns.log()
        log_u -= rows.log()[:, None]
    return torch.add(log_q, log_v, out=q).softmax(dim=1)  # n diag(u) exp(S/ε) diag(v)
