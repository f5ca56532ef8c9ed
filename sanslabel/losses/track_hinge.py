from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sanslabel.losses.precision import in_float32
from sanslabel.randomness import fold, uniform

FROM_HARDEST, FROM_REST = 0, 1
"""the streams that negatives are drawn from"""


@in_float32
def track_hinge(
    a: Tensor,
    b: Tensor,
    margin: float,
    *,
    negatives: int = 4,
    hard: int = 2,
    group: Tensor | None = None,
    key: int = 0,
) -> Tensor:
    """Returns the mean hinge by which negatives are closer to a pair than its members are to each other.

    a, b: (N, D), row i of both shows one object at two times -> (). group: (N,) int64, the object of each pair; pairs
    of one object are no negatives of each other. key: the key that `draw_negatives` draws from.
    Pair i has up to K = `negatives` negatives n among the 2N - 2 members of other pairs. Both members are anchors:
    L = 1/(2 N K) Σᵢ Σₙ [M - s(aᵢ, bᵢ) + s(aᵢ, n)]₊ + [M - s(aᵢ, bᵢ) + s(bᵢ, n)]₊, s the cosine and M the margin.
    Negatives that are far enough are not drawn, but the divisor counts all 2 N K terms. L is M, without a gradient, if
    all rows are equal. It is 0 if s(aᵢ, n) ≤ s(aᵢ, bᵢ) - M for every negative. Wang and Gupta 2015, eq. 2, as in their
    code.
    """
    a, b = normalize(a, dim=1), normalize(b, dim=1)
    z, near = torch.cat([a, b]), (a * b).sum(dim=1, keepdim=True)  # (2N, D), (N, 1)
    from_a, from_b = margin - near + a @ z.T, margin - near + b @ z.T  # (N, 2N), the terms before the hinge
    track = torch.arange(len(a), device=a.device) if group is None else group
    allowed = track[:, None] != track.repeat(2)  # (N, 2N)
    drawn, active = draw_negatives(from_a.detach(), allowed, negatives, hard, key)
    terms = (from_a.gather(1, drawn).relu() + from_b.gather(1, drawn).relu()) * active  # (N, K)
    return terms.sum() / (2 * allowed.sum(dim=1).clamp(max=negatives).sum()).clamp(min=1)


@torch.no_grad()
def draw_negatives(terms: Tensor, allowed: Tensor, negatives: int, hard: int, key: int) -> tuple[Tensor, Tensor]:
    """Returns the negatives of each pair, (N, K) int64, and True for those that count, (N, K) bool.

    terms: (N, M), the hinge of each candidate before it is cut at 0; allowed: (N, M) bool, False for candidates of the
    pair's own object. Only candidates of positive terms count. `hard` of the K negatives are drawn from the K largest
    terms, and the others from all remaining ones. K is at most M.
    """
    n, candidates = terms.shape
    count = min(negatives, candidates)
    keys = fold(torch.arange(n, device=terms.device), key)
    violates = allowed & (terms > 0)
    hardest = torch.where(violates, terms, -torch.inf).topk(count, dim=1).indices  # (N, K)
    first = uniform(keys, count, FROM_HARDEST).topk(min(hard, count), dim=1).indices
    priority = uniform(keys, candidates, FROM_REST).scatter(1, hardest.gather(1, first), 2.0)
    priority, drawn = torch.where(violates, priority, -1.0).topk(count, dim=1)
    return drawn, priority >= 0
