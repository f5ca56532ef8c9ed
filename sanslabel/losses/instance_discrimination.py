from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from sanslabel.losses.chunking import large
from sanslabel.losses.log_partition import log_partition
from sanslabel.losses.precision import in_float32


@in_float32
def instance_discrimination(query: Tensor, candidates: Tensor, own: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding each query's own candidate among all of them: every image is a class of its own.

    query: (N, D); candidates: (n, D), a bank or the batch's keys; own: (N,) int64, each query's row in them -> ().
    ℓ(i) = -log [ exp(qᵢ·c_own(i)/τ) / Σⱼ exp(qᵢ·cⱼ/τ) ] of normalized vectors; the mean over i. ln n when all are
    equal. Wu et al. 2018 (NPID), eq. 2; Chen, Xie and He 2021 (MoCo v3), eq. 1.
    """
    query = normalize(query, dim=1)
    if large(len(query) * len(candidates), query.device):
        near = (query * normalize(candidates[own], dim=1)).sum(dim=1) / temperature
        return (log_partition(query, candidates, temperature) - near).mean()
    return cross_entropy(query @ normalize(candidates, dim=1).T / temperature, own)
