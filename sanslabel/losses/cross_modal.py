from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from sanslabel.losses.chunking import large
from sanslabel.losses.log_partition import log_partition
from sanslabel.losses.precision import in_float32


@in_float32
def cross_modal(a: Tensor, b: Tensor, temperature: Tensor | float, group: Tensor | None = None) -> Tensor:
    """Returns the symmetric cross-entropy of finding each row's partner in the other matrix, in both directions.

    a, b: (N, D), two signals of the same N samples, such as pictures and their sounds; temperature: a number, or () for
    one that is learned -> ().
    group: (N,) int64, the clip of each sample: other rows of a clip are no candidates of each other.
    Let sᵢⱼ = cos(aᵢ, bⱼ)/τ. ℓ = ½ mean over i of [-2 sᵢᵢ + log Σⱼ exp(sᵢⱼ) + log Σⱼ exp(sⱼᵢ)]. ln N if all are equal.
    Radford et al. 2021 (CLIP), figure 3.
    """
    a, b = normalize(a, dim=1), normalize(b, dim=1)
    scaled = a / temperature  # the temperature may be learned, and has its gradient here
    if group is None and large(len(a) * len(b), a.device):
        near = (scaled * b).sum(dim=1)
        to_b, to_a = log_partition(scaled, b, 1.0), log_partition(b / temperature, a, 1.0)
        return ((to_b + to_a) / 2 - near).mean()
    similarity = scaled @ b.T  # (N, N)
    partner = torch.arange(len(a), device=a.device)
    if group is not None:
        excluded = (group[:, None] == group) & (partner[:, None] != partner)
        similarity = similarity.masked_fill(excluded, float("-inf"))
    return (cross_entropy(similarity, partner) + cross_entropy(similarity.T, partner)) / 2
