from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from sanslabel.losses.precision import in_float32

Negatives = Literal["both", "same", "other"]
"""positions of all images, of the prediction's own image alone, or of the other images alone"""


@in_float32
def candidate_scores(
    predicted: Tensor, targets: Tensor, positive: Tensor, negatives: Negatives = "both"
) -> tuple[Tensor, Tensor]:
    """The dot products of every prediction with its candidates, and where among these the right one stands.

    predicted: (N, Q, D), Q predictions in each image; targets: (M, P, D), the embeddings of its P positions, of the
    same N images first; positive: (Q,) int64, the position that is predicted -> (N · Q, K) and (N · Q,) int64.
    K = M · P candidates for "both", P for "same"; for "other" the M · P have -inf at the image's own other positions.
    """
    n, q, _ = predicted.shape
    p = targets.shape[1]
    if negatives == "same":
        return (predicted @ targets[:n].mT).flatten(0, 1), positive.repeat(n)
    scores = (predicted.flatten(0, 1) @ targets.flatten(0, 1).T).view(n, q, -1)  # (N, Q, M P)
    right = torch.arange(n, device=scores.device)[:, None] * p + positive  # (N, Q)
    if negatives == "other":
        place = torch.arange(scores.shape[2], device=scores.device)
        own = place // p == torch.arange(n, device=scores.device)[:, None, None]  # (N, 1, M P)
        scores = scores.masked_fill(own & (place != right[:, :, None]), float("-inf"))
    return scores.flatten(0, 1), right.flatten()


def predictive_coding(predicted: Tensor, targets: Tensor, positive: Tensor, negatives: Negatives = "both") -> Tensor:
    """Cross-entropy of finding what was predicted among embeddings of other places: InfoNCE of plain dot products.

    predicted: (N, Q, D); targets: (N, P, D); positive: (Q,) int64, each prediction's position among the P -> ().
    L = -log [ exp(ẑᵀz) / Σₗ exp(ẑᵀzₗ) ], the mean over predictions. ln K for ẑ = 0, of K = N · P candidates with
    negatives "both", P with "same" and (N - 1) · P + 1 with "other"; ln K - L bounds the information that context and
    target share from below. van den Oord et al. 2018, eq. 4; Hénaff et al. 2020, eq. 1.
    """
    scores, right = candidate_scores(predicted, targets, positive, negatives)
    return cross_entropy(scores, right)
