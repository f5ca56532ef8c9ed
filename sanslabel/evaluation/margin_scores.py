"""Scores of pairs by margin, which retrieval of translations uses in place of the cosine."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


@torch.no_grad()
def margin_scores(a: Tensor, b: Tensor, neighbors: int = 4) -> Tensor:
    """Returns the cosine of each pair divided by the mean cosine of both to their nearest neighbors.

    a, b: (N, D) and (M, D) embeddings in two languages; neighbors: k -> (N, M) float32.
    cos(aᵢ, bⱼ) / (½ mean_k cos(aᵢ, ·) + ½ mean_k cos(·, bⱼ)), where each mean is over the k nearest in the other
    language. A text that is near to all others, a hub, has a large denominator. It is 1 if all embeddings are equal.
    Artetxe and Schwenk 2019, eq. 2 with the margin "ratio".
    """
    cosine = normalize(a.float(), dim=1) @ normalize(b.float(), dim=1).T
    of_a = cosine.topk(min(neighbors, cosine.shape[1]), dim=1).values.mean(dim=1)  # (N,)
    of_b = cosine.topk(min(neighbors, cosine.shape[0]), dim=0).values.mean(dim=0)  # (M,)
    return cosine / ((of_a[:, None] + of_b) / 2)


def retrieval_errors(scores: Tensor) -> tuple[float, float]:
    """Returns the shares of texts whose highest score is not that of their translation, in both directions.

    scores: (N, N), of which the diagonal has the translations.
    """
    place = torch.arange(len(scores), device=scores.device)
    forward, backward = ((scores.argmax(dim=dim) != place).double().mean().item() for dim in (1, 0))
    return forward, backward
