"""Scores of frames: a value for each clip, whose mean is the score, and gains with intervals over clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import nan
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sanslabel.evaluation.comparison import Comparison
from sanslabel.evaluation.features import Frames
from sanslabel.evaluation.gains import mean_gain
from sanslabel.evaluation.protocol import NotMeasurable, Protocol
from sanslabel.scores import Score

CHANCE = "chance"
"""the name, in place of a representation, of the value that chance gives"""
STEP = 1e-6
"""step that cosines are rounded to, so that those of equal features are equal"""


def check_frames(protocol: Protocol, comparison: Comparison) -> None:
    """Raises NotMeasurable if the samples of a comparison are not frames with times."""
    if comparison.split is not None and comparison.split.test.time is None:
        raise NotMeasurable(
            f"--protocols {protocol.name}: {comparison.split.data} has no time; name a video with --data, add --fps if "
            "each of its folders holds the frames of a clip, or leave the protocol out."
        )


def measured_frames(protocol: Protocol, comparison: Comparison) -> Frames:
    """Returns the clip and time of each test sample. Raises NotMeasurable if there is no time."""
    if (frames := comparison.division.test_frames) is None:
        raise NotMeasurable(f"--protocols {protocol.name}: the samples have no time; leave the protocol out.")
    return frames


def clip_scores(
    protocol: Protocol,
    comparison: Comparison,
    metric: str,
    values: Mapping[str, Tensor],
    chance: float,
    settings: Mapping[str, Any],
) -> list[Score]:
    """Returns the scores of a metric: the mean over clips for each representation, in %, after that of chance.

    values: for each representation, (C,) in [0, 1], the value of each clip; nan for a clip that cannot be measured.
    Clips are the same for all representations. Scores of trained encoders have their gains, with intervals over clips.
    """
    counted = ~torch.stack([*values.values()]).isnan().any(dim=0)
    about = {**settings, "clips": int(counted.sum())}
    made = [comparison.score(protocol, metric, CHANCE, 100 * chance, comparison.division, about)]
    for name, by_clip in values.items():
        mean = 100 * float(by_clip[counted].mean()) if counted.any() else nan
        gains = tuple(
            mean_gain(over, by_clip[counted], values[over][counted])
            for over in comparison.baselines.get(name, ())
            if over in values and counted.sum() > 1
        )
        made.append(replace(comparison.score(protocol, metric, name, mean, comparison.division, about), gains=gains))
    return made


def rounded_cosines(features: Tensor, others: Tensor) -> Tensor:
    """Returns the cosines of features (n, D) and others (m, D), (n, m), rounded so that equal features have equal
    ones."""
    a, b = (normalize(x.float(), dim=1) for x in (features, others))
    return rounded(a @ b.T)


def rounded(cosine: Tensor) -> Tensor:
    """Returns cosines in whole steps of 1e-6, so that sums of equal ones are equal, too."""
    return (cosine / STEP).round()


def clip_means(values: Tensor, group: Tensor) -> Tensor:
    """Returns the mean of the values (N,) of each group (N,), in the order of the groups' numbers, (C,)."""
    _, clip = group.unique(return_inverse=True)
    count = torch.bincount(clip)
    return torch.bincount(clip, weights=values.double(), minlength=len(count)) / count
