"""shots: how often the nearest frame is of the same shot, where frames close in time do not count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from sanslabel.constraints import NonNegative
from sanslabel.evaluation.clip_scores import check_frames, clip_means, clip_scores, measured_frames, rounded_cosines
from sanslabel.evaluation.comparison import Comparison
from sanslabel.evaluation.features import Frames
from sanslabel.evaluation.protocol import NotMeasurable, Protocol
from sanslabel.losses.time_triplet import SLACK
from sanslabel.randomness import Stream, fold, permutation
from sanslabel.scores import Score

QUERIES = 1000
"""frames that search all others, at most"""


@dataclass(frozen=True, kw_only=True)
class Shots(Protocol):
    """The share of frames whose nearest frame, by cosine, is of the same shot. Frames of the shot that are closer in
    time than `away` do not count, since they are almost the same picture."""

    away: Annotated[float, NonNegative] = 1.0
    """seconds that a frame of the same shot must be away"""

    title = "Retrieval of the same shot, in %"
    needs = "frames with times"
    reads_labels = False
    identified_by = ("away",)

    def check_comparison(self, comparison: Comparison) -> None:
        check_frames(self, comparison)

    def measure(self, comparison: Comparison) -> list[Score]:
        frames, values, chance = measured_frames(self, comparison), {}, 0.0
        for name, features in comparison.features.items():
            comparison.report(f"Measuring {name}: {self.name}")
            result = retrieved(features.test.cpu(), frames, self.away, comparison.seed)
            if not len(result.correct):
                raise NotMeasurable(
                    f"--protocols shots: no shot has two frames at least {self.away} s apart; lower --shots.away."
                )
            values[name], chance = clip_means(result.correct, result.group), float(result.chance.mean())
        return clip_scores(self, comparison, "recall at 1", values, chance, {"away": self.away})


class Retrieved(NamedTuple):
    """The result of a search for frames of the same shot."""

    correct: Tensor
    """(Q,), 1 if the nearest frame is of the query's shot, else 0; a share if several are equally near"""
    chance: Tensor
    """(Q,), the share of frames of the query's shot among all that could be found"""
    group: Tensor
    """(Q,) int64, the shot of each query"""


@torch.no_grad()
def retrieved(features: Tensor, frames: Frames, away: float, seed: int) -> Retrieved:
    """Returns what frames find: the nearest of all others, without those of their shot less than `away` seconds away.

    features: (M, D). Up to 1,000 queries are drawn by the seed among frames that have something to find.
    """
    correct, chance, group = [], [], []
    for index in permutation(fold(seed, Stream.FRAMES), len(features)).split(QUERIES):
        same = frames.group[index][:, None] == frames.group
        gap = (frames.time[index][:, None] - frames.time).abs()
        excluded = (index[:, None] == torch.arange(len(features))) | (same & (gap < away - SLACK))
        findable = same & ~excluded
        cosine = rounded_cosines(features[index], features).masked_fill(excluded, -torch.inf)
        nearest = cosine == cosine.amax(dim=1, keepdim=True)
        searching = findable.any(dim=1)
        correct.append(((nearest & same).sum(dim=1) / nearest.sum(dim=1))[searching])
        chance.append((findable.sum(dim=1) / (~excluded).sum(dim=1).clamp(min=1))[searching])
        group.append(frames.group[index][searching])
        if sum(map(len, group)) >= QUERIES:
            break
    return Retrieved(*(torch.cat(pieces)[:QUERIES] for pieces in (correct, chance, group)))
