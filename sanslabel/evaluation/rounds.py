"""Rounds of measurement: one with all labels, and several with few labels, whose mean is the score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor

from sanslabel.evaluation.comparison import Comparison
from sanslabel.evaluation.features import Division, Features, few_labels
from sanslabel.evaluation.protocol import Protocol
from sanslabel.randomness import Stream, fold
from sanslabel.scores import Score

Rounds = Mapping[int | None, Sequence[Tensor]]
"""labels of each class -> positions of training samples, (n,) each; None for all labels"""
Measure = Callable[[Features, Division, Tensor, bool], tuple[float, Mapping[str, Any]]]
"""(features, labels, positions of training samples, whether labels are few) -> accuracy in %, and settings"""


def all_labels(division: Division) -> Rounds:
    """Returns a single round with all training samples."""
    return {None: [torch.arange(len(division.train))]}


def few_label_rounds(division: Division, counts: Sequence[int], draws: int, seed: int) -> Rounds:
    """Returns `draws` rounds with each number of labels per class, drawn by the seed."""
    keys = [fold(seed, Stream.FEW_LABELS, draw) for draw in range(draws)]
    return {count: [few_labels(division.train, count, key) for key in keys] for count in counts}


def scores_of_rounds(protocol: Protocol, comparison: Comparison, rounds: Rounds, measure: Measure) -> list[Score]:
    """Returns a score for each representation and number of labels: the mean and standard deviation over the draws."""
    scores = []
    for name, features in comparison.features.items():
        comparison.report(f"Measuring {name}: {protocol.name}")
        for count, draws in rounds.items():
            values, settings = zip(
                *(measure(features, comparison.division, index, count is not None) for index in draws), strict=True
            )
            scores.append(
                Score(
                    protocol=protocol.name,
                    metric="accuracy",
                    representation=name,
                    split=comparison.division.split,
                    labels_per_class=count,
                    value=fmean(values),
                    spread=stdev(values) if len(values) > 1 else None,
                    n_train=len(draws[0]),
                    n_test=len(comparison.division.test),
                    seed=comparison.seed,
                    settings=_merged(settings),
                )
            )
    return scores


def _merged(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the settings of all draws. Values that all draws share appear once, and others become a list."""
    values = {key: [draw[key] for draw in settings] for key in settings[0]}
    return {key: draws[0] if all(v == draws[0] for v in draws) else draws for key, draws in values.items()}
