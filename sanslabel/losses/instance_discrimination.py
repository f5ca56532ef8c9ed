from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from sanslabel.losses.chunking import large
from sanslabel.losses.log_partition import log_partition
from sanslabel.losses.precision import in_float32


@in_float32
def instance_discrimination(query: Tensor, candidates: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Returns the cross-entropy of finding each query's candidate among all of them: every image is a class.

    query: (N, D); candidates: (n, D), a bank or the batch's keys; target: (N,) int64, the index of each query's
    candidate -> (). ℓ(i) = -log [ exp(qᵢ·c_t(i)/τ) / Σⱼ exp(qᵢ·cⱼ/τ) ] of normalized vectors; the mean over i. ln n if
    all are equal. Wu et al. 2018 (NPID), eq. 2; Chen, Xie and He 2021 (MoCo v3), eq. 1.
    """
    query = normalize(query, dim=1)
    if large(len(query) * len(candidates), query.device):
        near = (query * normalize(candidates[target], dim=1)).sum(dim=1) / temperature
        return (log_partition(query, candidates, temperature) - near).mean()
    return cross_entropy(query @ normalize(candidates, dim=1).T / temperature, target)
