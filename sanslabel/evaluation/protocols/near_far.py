"""near_far: how often a near frame is closer than a far frame of the same clip, and than a frame of another clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from sanslabel.constraints import Positive
from sanslabel.errors import BadInput
from sanslabel.evaluation.clip_scores import check_frames, clip_scores, measured_frames, rounded_cosines
from sanslabel.evaluation.comparison import Comparison
from sanslabel.evaluation.features import Frames
from sanslabel.evaluation.protocol import NotMeasurable, Protocol
from sanslabel.losses import near_and_far
from sanslabel.randomness import Stream, fold, permutation
from sanslabel.scores import Score

ANCHORS, OTHERS = 64, 1024
"""frames of each clip that others are compared with, at most, and frames of other clips"""


@dataclass(frozen=True, kw_only=True)
class NearFar(Protocol):
    """The AUROC of near frames by cosine, against far frames of the same clip and against frames of other clips.

    It is the mean over clips and over up to 64 frames of each. Pixels are strong at it: it shows what an encoder keeps
    of time, beside pixels and the random encoder.
    """

    near: Annotated[float, Positive] = 0.5
    """seconds up to which frames are near"""
    far: Annotated[float, Positive] = 2.0
    """seconds beyond which frames of the same clip are far"""

    title = "Near frames closer than others (AUROC in %)"
    needs = "frames with times"
    reads_labels = False
    identified_by = ("near", "far")

    def check_comparison(self, comparison: Comparison) -> None:
        if self.far < self.near:
            raise BadInput(f"--near-far.far {self.far}: must be at least --near-far.near, {self.near}; raise it.")
        check_frames(self, comparison)

    def measure(self, comparison: Comparison) -> list[Score]:
        frames, settings = measured_frames(self, comparison), {"near": self.near, "far": self.far}
        aurocs = {}
        for name, features in comparison.features.items():
            comparison.report(f"Measuring {name}: {self.name}")
            aurocs[name] = near_far_aurocs(features.test.cpu(), frames, self.near, self.far, comparison.seed)
        scores = []
        for place, metric in enumerate(("same clip", "other clips")):
            values = {name: both[place] for name, both in aurocs.items()}
            if not next(iter(values.values())).isnan().all():
                scores += clip_scores(self, comparison, metric, values, 0.5, settings)
        if not scores:
            raise NotMeasurable(
                f"--protocols near_far: no clip has a frame within {self.near} s of another one and one more than "
                f"{self.far} s away; change --near-far.near or --near-far.far."
            )
        return scores


@torch.no_grad()
def near_far_aurocs(features: Tensor, frames: Frames, near: float, far: float, seed: int) -> tuple[Tensor, Tensor]:
    """Returns the AUROC of each clip against its own far frames, and against frames of other clips, (C,) each.

    The AUROC, in [0, 1], is the share of cases in which a near frame is closer to an anchor than the other frame is.
    Equal cosines count half. It is nan for a clip without such frames. Anchors and frames of other clips are drawn by
    the seed. features: (M, D).
    """
    key = fold(seed, Stream.FRAMES)
    pool = permutation(key, len(features))[:OTHERS]
    same, other = [], []
    for number, clip in enumerate(frames.group.unique()):
        index = (frames.group == clip).nonzero()[:, 0]
        anchors = permutation(fold(key, number), len(index))[:ANCHORS]
        close, distant = (mask[anchors] for mask in near_and_far(frames.time[index], near, far))
        cosine = rounded_cosines(features[index[anchors]], features[index])
        same.append(auroc(cosine, close, cosine, distant))
        strangers = pool[frames.group[pool] != clip]
        to_strangers = rounded_cosines(features[index[anchors]], features[strangers])
        other.append(auroc(cosine, close, to_strangers, torch.ones_like(to_strangers, dtype=torch.bool)))
    return torch.stack(same), torch.stack(other)


def auroc(positives: Tensor, chosen: Tensor, negatives: Tensor, admitted: Tensor) -> Tensor:
    """Returns how often a positive exceeds a negative of its row, as the mean over rows that have both, (); nan if no
    row has.

    positives, chosen: (n, m), scores, and which of them count; negatives, admitted: (n, k), likewise. Ties count half.
    """
    count = admitted.sum(dim=1, keepdim=True)
    candidates = torch.where(admitted, negatives, torch.inf).sort(dim=1).values
    below, above = (torch.searchsorted(candidates, positives.contiguous(), right=right) for right in (False, True))
    wins = (below + above) / 2 / count.clamp(min=1)
    by_row = torch.where(chosen, wins, 0).sum(dim=1) / chosen.sum(dim=1)
    return by_row[(count[:, 0] > 0) & chosen.any(dim=1)].mean().double()
