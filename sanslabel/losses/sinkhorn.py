from __future__ import annotations

import torch
from torch import Tensor

from sanslabel.losses.chunking import part
from sanslabel.losses.precision import in_float32


@in_float32
@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Soft assignments of samples to prototypes that use all prototypes alike (Sinkhorn and Knopp's scaling).

    scores: (N, K) -> (N, K), rows sum to 1, columns to about N/K, exactly so in the limit of many iterations.
    Q = diag(u) exp(S/ε) diag(v), first the columns scaled to N/K, then the rows to 1, in turns. Uniform where all rows
    are equal. A small ε makes assignments hard. Caron et al. 2020 (SwAV), eq. 3-5 and appendix A.
    """
    # Only ln v is kept, and up to a constant: a softmax scales the rows, whatever their size, where exp(-2/ε) is 0 in
    # float32 from ε = 0.02 down. After it no column is lost either: one that was scaled has 1/NK at least.
    parts = scores.split(max(1, part(scores.device) // scores.shape[1]))
    log_v = scores.new_zeros(scores.shape[1])
    for iteration in range(iterations):
        if iteration == 0:  # of rows as they are
            columns = torch.stack([(rows / epsilon).logsumexp(dim=0) for rows in parts]).logsumexp(dim=0)
        else:
            columns = torch.stack([_rows_scaled(rows, epsilon, log_v).sum(dim=0) for rows in parts]).sum(dim=0).log()
        log_v = log_v - columns
    return torch.cat([_rows_scaled(rows, epsilon, log_v) for rows in parts])


def _rows_scaled(scores: Tensor, epsilon: float, log_v: Tensor) -> Tensor:
    """(n, K), exp(S/ε) diag(v) with rows that sum to 1."""
    return (scores / epsilon).add_(log_v).softmax(dim=1)
