"""order: whether a linear probe reads the arrow of time, and whether distances give the order of four frames."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, permutations
from typing import Annotated

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sanslabel.constraints import Positive
from sanslabel.evaluation.clip_scores import check_frames, clip_means, clip_scores, measured_frames, rounded
from sanslabel.evaluation.comparison import Comparison
from sanslabel.evaluation.features import Features, Frames
from sanslabel.evaluation.probe import chosen_probe
from sanslabel.evaluation.protocol import NotMeasurable, Protocol
from sanslabel.losses.time_triplet import SLACK
from sanslabel.randomness import Stream, fold, permutation
from sanslabel.scores import Score

PAIRS = 2000
"""pairs of frames that a probe is fitted on, and as many that it is measured on, at most"""
ORDERS = [order for order in permutations(range(4)) if order[0] < order[3]]
"""the 12 orders of four frames that differ by more than their direction; the first is the true one"""


@dataclass(frozen=True, kw_only=True)
class Order(Protocol):
    """Two measures of order in time, on clips that nothing was fitted on.

    For the arrow of time, a linear probe reads the features of two frames and their product, and predicts which of the
    two came first. For the order of four frames, the path with the largest sum of cosines of neighbors is taken, up to
    its direction.
    """

    gap: Annotated[float, Positive] = 0.5
    """seconds from one frame to the next"""

    title = "Order in time, in %"
    needs = "frames with times, of at least two clips"
    reads_labels = False
    identified_by = ("gap",)

    def check_comparison(self, comparison: Comparison) -> None:
        check_frames(self, comparison)

    def measure(self, comparison: Comparison) -> list[Score]:
        test, train, seed = measured_frames(self, comparison), comparison.division.train_frames, comparison.seed
        assert train is not None
        if comparison.split is not None and comparison.split.train.fingerprint == comparison.split.test.fingerprint:
            raise NotMeasurable("--protocols order: needs two clips, one to fit on and one to measure; name more data.")
        scores = []
        for metric, count, chance in (("arrow of time", 2, 0.5), ("order of four", 4, 1 / len(ORDERS))):
            fitted_on, measured_on = (frames_in_a_row(frames, count, self.gap, seed) for frames in (train, test))
            if not len(measured_on) or not len(fitted_on):
                continue
            values = {}
            for name, features in comparison.features.items():
                comparison.report(f"Measuring {name}: {self.name}")
                correct = (
                    arrow_accuracy(Features(*(x.cpu() for x in features)), fitted_on, measured_on, seed)
                    if count == 2
                    else order_accuracy(features.test.cpu(), measured_on)
                )
                values[name] = clip_means(correct, test.group[measured_on[:, 0]])
            scores += clip_scores(self, comparison, metric, values, chance, {"gap": self.gap})
        if not scores:
            raise NotMeasurable(f"--protocols order: no clip has two frames {self.gap} s apart; change --order.gap.")
        return scores


def frames_in_a_row(frames: Frames, count: int, gap: float, seed: int) -> Tensor:
    """Returns positions of frames of one clip, each the first one at least `gap` seconds after the last, (n, count)
    int64.

    Frames more than 1.5 gaps apart are left out. Up to 2,000 of these series are drawn by the seed.
    """
    in_time = torch.argsort(frames.time, stable=True)
    in_time = in_time[torch.argsort(frames.group[in_time], stable=True)]
    group, time = frames.group[in_time], frames.time[in_time]
    # One axis of time for all clips, which are farther from each other than any gap.
    span = time.max() - time.min() + 4 * gap
    axis = time - time.min() + torch.unique_consecutive(group, return_inverse=True)[1] * span
    following = torch.searchsorted(axis, axis + gap - SLACK)
    reached = following.clamp(max=len(axis) - 1)
    valid = (following < len(axis)) & (axis[reached] - axis <= 1.5 * gap)
    places, counted = [torch.arange(len(axis))], torch.ones(len(axis), dtype=torch.bool)
    for _ in range(count - 1):
        counted &= valid[places[-1]]
        places.append(reached[places[-1]])
    series = in_time[torch.stack(places, dim=1)[counted]]
    return series[permutation(fold(seed, Stream.FRAMES), len(series))[:PAIRS]]


def arrow_accuracy(features: Features, train: Tensor, test: Tensor, seed: int) -> Tensor:
    """Returns for each pair of test frames how often a probe recognizes its direction, (n,) in {0, ½, 1}.

    features: (N, D) and (M, D); train: (k, 2), test: (n, 2), positions of frames, the earlier one first. Each pair is
    seen in both directions, so that a probe without an opinion is right in half of the cases.
    """

    def both(h: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
        first, second = h[pairs[:, 0]].float(), h[pairs[:, 1]].float()
        product = first * second
        inputs = torch.cat([torch.cat([first, second, product], dim=1), torch.cat([second, first, product], dim=1)])
        return inputs, torch.arange(2).repeat_interleave(len(pairs))

    inputs, labels = both(features.train, train)
    probe, _ = chosen_probe(inputs, labels, classes=2, seed=seed)
    inputs, labels = both(features.test, test)
    return (probe.predictions(inputs) == labels).double().view(2, -1).mean(dim=0)


def order_accuracy(features: Tensor, fours: Tensor) -> Tensor:
    """Returns for each four frames whether the path with the largest sum of cosines has their order, (n,) in [0, 1].

    features: (M, D); fours: (n, 4), positions of frames in the order of time. If several paths are equally good, the
    result is the share of the true one.
    """
    unit = normalize(features.float(), dim=1)[fours]  # (n, 4, D)
    cosine = rounded(unit @ unit.mT)
    steps = torch.tensor([[*pairwise(order)] for order in ORDERS])  # (12, 3, 2)
    paths = cosine[:, steps[..., 0], steps[..., 1]].sum(dim=2)  # (n, 12)
    best = paths == paths.amax(dim=1, keepdim=True)
    return best[:, 0].double() / best.sum(dim=1)
