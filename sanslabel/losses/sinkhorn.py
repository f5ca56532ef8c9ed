from __future__ import annotations

import torch
from torch import Tensor

from sanslabel.losses.chunking import chunk_size
from sanslabel.losses.precision import in_float32


@in_float32
@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Returns soft assignments of samples to prototypes that use all prototypes equally (Sinkhorn and Knopp's scaling).

    scores: (N, K) -> (N, K), rows sum to 1, columns to about N/K, exactly so in the limit of many iterations.
    Q = diag(u) exp(S/ε) diag(v), where in turns the columns are scaled to N/K and then the rows to 1. Uniform if all
    rows are equal. A small ε makes assignments hard. Caron et al. 2020 (SwAV), eq. 3-5 and appendix A.
    """
    # Only ln v is stored, up to a constant. A softmax scales the rows whatever the size of the scores; exp(-2/ε) would
    # be 0 in float32 for ε of 0.02 or less. No column vanishes either: after its scaling, it has at least 1/NK.
    chunks = scores.split(max(1, chunk_size(scores.device) // scores.shape[1]))
    log_v = scores.new_zeros(scores.shape[1])
    for iteration in range(iterations):
        if iteration == 0:  # the rows are not scaled yet
            columns = torch.stack([(chunk / epsilon).logsumexp(dim=0) for chunk in chunks]).logsumexp(dim=0)
        else:
            columns = torch.stack([_rows_scaled(chunk, epsilon, log_v).sum(dim=0) for chunk in chunks]).sum(dim=0).log()
        log_v = log_v - columns
    return torch.cat([_rows_scaled(chunk, epsilon, log_v) for chunk in chunks])


def _rows_scaled(scores: Tensor, epsilon: float, log_v: Tensor) -> Tensor:
    """Returns exp(S/ε) diag(v), scaled so that rows sum to 1: (n, K) -> (n, K)."""
    return (scores / epsilon).add_(log_v).softmax(dim=1)
