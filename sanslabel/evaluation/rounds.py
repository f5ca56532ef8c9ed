"""Rounds of measurement: one with all labels, and several with few labels, whose mean is the score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor

from sanslabel.evaluation.comparison import Comparison
from sanslabel.evaluation.features import Division, Features, accuracy, few_labels
from sanslabel.evaluation.gains import balanced_accuracy, gain, uneven
from sanslabel.evaluation.protocol import Protocol
from sanslabel.randomness import Stream, fold
from sanslabel.scores import BALANCED, LARGEST_CLASS, Gain, Score

Rounds = Mapping[int | None, Sequence[Tensor]]
"""labels of each class -> positions of training samples, (n,) each; None for all labels"""
Measure = Callable[[Features, Division, Tensor, bool], tuple[float, Mapping[str, Any]]]
"""(features, labels, positions of training samples, whether labels are few) -> accuracy in %, and settings"""
Predict = Callable[[Features, Division, Tensor, bool], tuple[Tensor, Mapping[str, Any]]]
"""the same arguments -> predicted classes of the test samples (M,) int64, and settings"""


def all_labels(division: Division) -> Rounds:
    """Returns a single round with all training samples."""
    return {None: [torch.arange(len(division.train))]}


def few_label_rounds(division: Division, counts: Sequence[int], draws: int, seed: int) -> Rounds:
    """Returns `draws` rounds with each number of labels per class, drawn by the seed. A class that has fewer labels
    gives all of them. If all classes do so, there is one round, since all draws would be the same."""
    keys = [fold(seed, Stream.FEW_LABELS, draw) for draw in range(draws)]
    most = int(torch.bincount(division.train).max())
    return {
        count: [few_labels(division.train, count, key) for key in (keys if count < most else keys[:1])]
        for count in counts
    }


def scores_of_rounds(protocol: Protocol, comparison: Comparison, rounds: Rounds, measure: Measure) -> list[Score]:
    """Returns a score for each representation and number of labels: the mean and standard deviation over the draws."""
    scores = []
    for name, features in comparison.features.items():
        comparison.report(f"Measuring {name}: {protocol.name}")
        for count, draws in rounds.items():
            measured = [measure(features, comparison.division, index, count is not None) for index in draws]
            scores.append(_score(protocol, comparison, name, count, draws, measured))
    return scores


def scores_of_predictions(protocol: Protocol, comparison: Comparison, rounds: Rounds, predict: Predict) -> list[Score]:
    """Returns the accuracy of each representation and number of labels: the mean and standard deviation over the draws.

    A representation that has baselines in the comparison gets its gains over them. If all labels are used, the accuracy
    of always answering the largest class of the training samples comes last. If classes are uneven, the balanced
    accuracy follows each accuracy with all labels.
    """
    division = comparison.division
    predictions: dict[tuple[str, int | None], list[tuple[Tensor, Mapping[str, Any]]]] = {}
    for name, features in comparison.features.items():
        comparison.report(f"Measuring {name}: {protocol.name}")
        for count, draws in rounds.items():
            predictions[name, count] = [predict(features, division, index, count is not None) for index in draws]
    if comparison.baselines and None in rounds:
        largest = torch.bincount(division.train).argmax().expand(len(division.test))
        predictions[LARGEST_CLASS, None] = [(largest, {})]
    correct = {
        key: torch.stack([predicted == division.test for predicted, _ in draws]) for key, draws in predictions.items()
    }
    scores = []
    for (name, count), draws in predictions.items():
        gains = tuple(
            gain(over, correct[name, count], correct[over, count])
            for over in comparison.baselines.get(name, ())
            if (over, count) in correct
        )
        measured = [(accuracy(predicted, division.test), settings) for predicted, settings in draws]
        scores.append(_score(protocol, comparison, name, count, rounds[count], measured, gains=gains))
        if count is None and uneven(division.train):
            measured = [(balanced_accuracy(predicted, division.test), settings) for predicted, settings in draws]
            scores.append(_score(protocol, comparison, name, count, rounds[count], measured, BALANCED))
    return scores


def _score(
    protocol: Protocol,
    comparison: Comparison,
    representation: str,
    labels_per_class: int | None,
    draws: Sequence[Tensor],
    measured: Sequence[tuple[float, Mapping[str, Any]]],
    metric: str = "accuracy",
    gains: tuple[Gain, ...] = (),
) -> Score:
    """Returns the score of a value and settings for each draw. If a class has fewer labels than were to be drawn, the
    settings have their number."""
    values, settings = zip(*measured, strict=True)
    fewest = int(torch.bincount(comparison.division.train[draws[0]]).min())
    short = {"fewest_labels": fewest} if labels_per_class is not None and fewest < labels_per_class else {}
    return Score(
        protocol=protocol.name,
        metric=metric,
        representation=representation,
        split=comparison.division.split,
        labels_per_class=labels_per_class,
        value=fmean(values),
        spread=stdev(values) if len(values) > 1 else None,
        n_train=len(draws[0]),
        n_test=len(comparison.division.test),
        seed=comparison.seed,
        settings=_merged(settings) | short,
        gains=gains,
        trained_on=comparison.division.trained_on,
        noun=comparison.division.noun,
    )


def _merged(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the settings of all draws. Values that all draws share appear once, and others become a list."""
    values = {key: [draw[key] for draw in settings] for key in settings[0]}
    return {key: draws[0] if all(v == draws[0] for v in draws) else draws for key, draws in values.items()}
