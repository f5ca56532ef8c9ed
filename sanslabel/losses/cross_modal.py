from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from sanslabel.losses.chunking import large
from sanslabel.losses.log_partition import log_partition
from sanslabel.losses.precision import in_float32


@in_float32
def cross_modal(
    a: Tensor,
    b: Tensor,
    temperature: Tensor | float,
    group: Tensor | None = None,
    excluded: Tensor | None = None,
    margin: float = 0.0,
) -> Tensor:
    """Returns the symmetric cross-entropy of finding each row's partner in the other matrix, in both directions.

    a, b: (N, D), two signals of the same N samples, such as pictures and their sounds; temperature: a number, or () for
    one that is learned -> ().
    group: (N,) int64, the clip of each sample: other rows of a clip are no candidates of each other.
    excluded: (N, N) bool, True at further rows that are no candidates; a row is always a candidate of its partner.
    margin: m, by which the cosine of partners must exceed the others; with it the loss is ln(1 + (N - 1) exp(m/τ)) if
        all are equal.
    Let sᵢⱼ = cos(aᵢ, bⱼ)/τ, and sᵢᵢ = (cos(aᵢ, bᵢ) - m)/τ. ℓ = ½ mean over i of
    [-2 sᵢᵢ + log Σⱼ exp(sᵢⱼ) + log Σⱼ exp(sⱼᵢ)]. ln N if all are equal.
    Radford et al. 2021 (CLIP), figure 3; Yang et al. 2019, eq. 4, for the margin.
    """
    a, b = normalize(a, dim=1), normalize(b, dim=1)
    scaled = a / temperature  # the temperature may be learned, and has its gradient here
    if group is None and excluded is None and not margin and large(len(a) * len(b), a.device):
        near = (scaled * b).sum(dim=1)
        to_b, to_a = log_partition(scaled, b, 1.0), log_partition(b / temperature, a, 1.0)
        return ((to_b + to_a) / 2 - near).mean()
    similarity = scaled @ b.T  # (N, N)
    partner = torch.arange(len(a), device=a.device)
    if group is not None:
        same = group[:, None] == group
        excluded = same if excluded is None else excluded | same
    if excluded is not None:
        similarity = similarity.masked_fill(excluded & (partner[:, None] != partner), float("-inf"))
    if margin:
        similarity = similarity - margin * torch.eye(len(a), dtype=similarity.dtype, device=a.device) / temperature
    return (cross_entropy(similarity, partner) + cross_entropy(similarity.T, partner)) / 2
