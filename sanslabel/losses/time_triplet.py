from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sanslabel.losses.precision import in_float32

SLACK = 1e-6
"""seconds by which a distance in time may exceed its limit, since times such as 1/30 s are rounded"""


@in_float32
def time_triplet(
    z: Tensor, times: Tensor, near: float, far: float, margin: float, groups: Tensor | None = None
) -> Tensor:
    """Returns the semi-hard triplet loss of frames: near ones are closer to each other than far ones, by a margin.

    z: (N, D), normalized inside; times: (N,), seconds; groups: (N,) int64, the clip of each frame, or None if all are
    of one -> (). D is the squared distance. Every frame is an anchor a. Its positives p are the other frames of its
    clip within `near` seconds, and its negatives those more than `far` seconds away. Frames of other clips are neither:
    as negatives, they would give a loss of 0 to a model that maps each clip to a point of its own. For each a and p,
    the negative n is the closest one that is farther than p, or the farthest if none is. The loss is the mean of
    [margin + D_ap - D_an]₊ over all a and p, active or not. Anchors without a negative are left out. The loss is the
    margin if all frames of a clip have equal embeddings, and 0 without a pair.

    Sermanet et al. 2018 (TCN), section III-B; semi-hard negatives as in Schroff et al. 2015.
    """
    unit = normalize(z, dim=1)
    squared = (2 - 2 * unit @ unit.T).clamp(min=0)
    positive, negative = near_and_far(times, near, far, groups)
    # Sorted by distance, with infinity in place of what is no negative, a search finds the negative of each positive.
    candidates = torch.where(negative, squared, torch.inf).sort(dim=1).values
    place = torch.searchsorted(candidates.detach(), squared.detach().contiguous(), right=True)
    semi_hard = candidates.gather(1, place.clamp(max=len(z) - 1))
    farthest = torch.where(negative, squared, 0).amax(dim=1, keepdim=True)
    beyond = (place < len(z)) & semi_hard.isfinite()
    terms = (margin + squared - torch.where(beyond, semi_hard, farthest)).relu()
    counted = positive & negative.any(dim=1, keepdim=True)
    return torch.where(counted, terms, 0).sum() / counted.sum().clamp(min=1)


def near_and_far(times: Tensor, near: float, far: float, groups: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Returns which frames are positives and which are negatives of each frame, (N, N) bool each.

    times: (N,), seconds; groups: (N,) int64 or None.
    """
    gap = (times[:, None] - times).abs()
    same = torch.ones_like(gap, dtype=torch.bool) if groups is None else groups[:, None] == groups
    oneself = torch.eye(len(times), dtype=torch.bool, device=times.device)
    return same & (gap <= near + SLACK) & ~oneself, same & (gap > far + SLACK)
