"""A linear probe whose penalty is chosen on held-out training samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sanslabel.evaluation.features import Division, Features, accuracy, take
from sanslabel.evaluation.linear import Probe, chosen_penalty, fitted
from sanslabel.evaluation.rounds import Measure, Predict
from sanslabel.fifths import FOLDS


def chosen_probe(
    features: Tensor, labels: Tensor, *, classes: int, seed: int, few: bool = False
) -> tuple[Probe, dict[str, Any]]:
    """Returns a probe that is fitted with the best penalty, and a record of how the penalty was chosen.

    features: (N, D); labels: (N,) int64 in [0, classes). With `few`, each fifth of the samples is held out in turn,
    since few labels are too few to lose a fifth of them.
    """
    choice = chosen_penalty(features, labels, classes=classes, rounds=FOLDS if few else 1, seed=seed)
    probe = fitted(features, labels, classes=classes, penalty=choice.best.penalty)
    return probe, {
        "selection": f"lowest cross-entropy on {'each fifth' if few else 'a held-out fifth'} of the "
        f"{'drawn' if few else 'training'} rows, seed {seed}",
        "penalty": choice.best.penalty,
        "held_out_cross_entropy": choice.best.cross_entropy,
        "held_out_accuracy": choice.best.accuracy,
        "penalty_at_edge": choice.at_edge,
    }


def probe_predictions(seed: int) -> Predict:
    """Returns a classifier for `scores_of_predictions`: a linear probe."""

    def predict(features: Features, division: Division, index: Tensor, few: bool) -> tuple[Tensor, dict[str, Any]]:
        train, labels = take(features.train, division.train, index)
        probe, settings = chosen_probe(train, labels, classes=division.classes, seed=seed, few=few)
        return probe.predictions(features.test), settings

    return predict


def probe_accuracy(seed: int) -> Measure:
    """Returns a measurement for `scores_of_rounds`: the test accuracy of a linear probe."""
    predict = probe_predictions(seed)

    def measure(features: Features, division: Division, index: Tensor, few: bool) -> tuple[float, Mapping[str, Any]]:
        predicted, settings = predict(features, division, index, few)
        return accuracy(predicted, division.test), settings

    return measure
