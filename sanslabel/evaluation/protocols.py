"""How representations are compared: by nearest neighbors, a linear probe, clusters and retrieval, with all labels and
with few.

All representations meet the same rows, the same draws of few labels and the same held-out fifths. Whatever is chosen is
chosen on training rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isfinite
from statistics import fmean, stdev
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from sanslabel.errors import BadInput
from sanslabel.evaluation import knn, linear, similarity
from sanslabel.evaluation.clusters import STARTS, agreement
from sanslabel.evaluation.retrieval import mean_average_precision
from sanslabel.randomness import Stream, fold, permutation
from sanslabel.scores import Score

Protocol = Literal[
    "knn", "linear", "few", "layers", "cluster", "retrieval", "finetune", "transfer", "relation", "invariance"
]
FROZEN = ("knn", "linear", "few", "cluster", "retrieval", "relation")
"""protocols of one representation"""
Metric = str
"""accuracy, NMI, ARI, mAP, triplets, CKA, or a kind of change"""
FEW, FEW_DRAWS = (1, 10), 3
"""% of the labels that the protocol `few` draws, and how often"""
QUERIES = 1000
"""test rows that search the training rows: sorting 60,000 for each takes seconds"""
RELATED = 5000
"""test rows whose distances are compared"""


class Division(NamedTuple):
    """The labels of training and test rows, which all representations share."""

    train: Tensor
    """(N,) int64 in [0, classes)"""
    test: Tensor
    """(M,)"""
    classes: int
    split: str
    """what the test rows are called"""


class Features(NamedTuple):
    """One representation of a division's rows."""

    train: Tensor
    """(N, D)"""
    test: Tensor
    """(M, D)"""


_Measured = tuple[dict[Metric, float], dict[str, Any]]
"""figures by metric, and what they depend on"""
_Measure = Callable[..., _Measured]


def scores(
    representations: Mapping[str, Features],
    division: Division,
    *,
    protocols: Sequence[Protocol] = ("knn", "linear"),
    k: int = 20,
    temperature: float = 0.07,
    labels_per_class: int = 10,
    draws: int = 5,
    seed: int = 0,
    report: Callable[[str], None] | None = None,
) -> list[Score]:
    """Each representation under each protocol; kNN and the linear probe with all labels and with `labels_per_class`,
    mean over `draws`, and `few` with 1 % and 10 % of them, as many of each class, mean over three.

    report: hears what is measured next. BadInput for too few labels.
    """
    every = [torch.arange(len(division.train))]

    def few(count: int, times: int) -> list[Tensor]:
        return [drawn(division.train, count, fold(seed, Stream.FEW_LABELS, draw)) for draw in range(times)]

    measures: dict[str, _Measure] = {
        "knn": partial(_knn, k=k, temperature=temperature),
        "linear": partial(_linear, seed=seed),
        "few": partial(_linear, seed=seed),
        "layers": partial(_linear, seed=seed),
        "transfer": partial(_linear, seed=seed),
        "cluster": partial(_cluster, seed=seed),
        "retrieval": partial(_retrieval, seed=seed),
        "relation": partial(_relation, seed=seed),
    }
    some = {None: every, labels_per_class: few(labels_per_class, draws)}
    rounds = {"knn": some, "linear": some}
    if "few" in protocols:
        rounds["few"] = {count: few(count, FEW_DRAWS) for count in _shares(division)}
    found = []
    for protocol in protocols:
        measure = measures[protocol]
        for name, features in representations.items():
            if report:
                report(f"Measuring {name}: {protocol}")
            for count, subsets in rounds.get(protocol, {None: every}).items():
                each, settings = zip(
                    *(measure(features, division, rows, few=count is not None) for rows in subsets), strict=True
                )
                for metric in each[0]:
                    values = [one[metric] for one in each]
                    found.append(
                        Score(
                            protocol=protocol,
                            metric=metric,
                            representation=name,
                            split=division.split,
                            labels_per_class=count,
                            value=fmean(values),
                            spread=stdev(values) if len(values) > 1 else None,
                            n_train=len(subsets[0]),
                            n_test=len(division.test),
                            seed=seed,
                            settings=_merged(settings),
                        )
                    )
    return found


def measured(
    protocol: Protocol,
    metric: Metric,
    name: str,
    value: float,
    division: Division,
    settings: Mapping[str, Any],
    seed: int,
    count: int | None = None,
) -> Score:
    """The score of a representation by a figure that was taken of all test rows, or of so many of them."""
    return Score(
        protocol=protocol,
        metric=metric,
        representation=name,
        split=division.split,
        labels_per_class=None,
        value=value,
        spread=None,
        n_train=len(division.train),
        n_test=len(division.test) if count is None else count,
        seed=seed,
        settings=settings,
    )


def _shares(division: Division) -> list[int]:
    """Labels of each class that are 1 % and 10 % of all; BadInput where a class has fewer."""
    counts = [max(1, round(len(division.train) * share / 100 / division.classes)) for share in FEW]
    least = int(torch.bincount(division.train, minlength=division.classes).min())
    if least < max(counts):
        raise BadInput(
            f"--protocols few: 10 % of the labels are {max(counts)} of each class, and one has {least}; give it more."
        )
    return list(dict.fromkeys(counts))


def drawn(labels: Tensor, per_class: int, key: int) -> Tensor:
    """The rows of `per_class` labels of each class, or of all that a class has, in ascending order."""
    order = permutation(key, len(labels))
    order = order[labels.cpu()[order].argsort(stable=True)]  # by class, in random order within
    sorted_labels = labels.cpu()[order]
    place = torch.arange(len(order)) - torch.searchsorted(sorted_labels, sorted_labels)
    return order[place < per_class].sort().values


def _knn(features: Features, division: Division, rows: Tensor, *, few: bool, k: int, temperature: float) -> _Measured:
    bank, labels = _taken(features.train, division.train, rows)
    predicted = knn.predictions(bank, labels, features.test, classes=division.classes, k=k, temperature=temperature)
    # JSON knows no infinity: null stands for the plain vote.
    settings = {"k": k, "temperature": temperature if isfinite(temperature) else None}
    return {"accuracy": accuracy(predicted, division.test)}, settings


def _linear(features: Features, division: Division, rows: Tensor, *, few: bool, seed: int) -> _Measured:
    train, labels = _taken(features.train, division.train, rows)
    probe, settings = chosen_probe(train, labels, classes=division.classes, seed=seed, few=few)
    return {"accuracy": accuracy(probe.predictions(features.test), division.test)}, settings


def chosen_probe(
    features: Tensor, labels: Tensor, *, classes: int, seed: int, few: bool = False
) -> tuple[linear.Probe, dict[str, Any]]:
    """A linear probe whose penalty was chosen on held-out rows of (N, D), and how it was chosen. Few labels cannot
    spare a fifth: each fifth of those is held out in turn."""
    turns = linear.PARTS if few else 1
    choice = linear.chosen_penalty(features, labels, classes=classes, turns=turns, seed=seed)
    probe = linear.fitted(features, labels, classes=classes, penalty=choice.best.penalty)
    return probe, {
        "selection": f"lowest cross-entropy on {'each fifth' if few else 'a held-out fifth'} of the "
        f"{'drawn' if few else 'training'} rows, seed {seed}",
        "penalty": choice.best.penalty,
        "held_out_cross_entropy": choice.best.cross_entropy,
        "held_out_accuracy": choice.best.accuracy,
        "penalty_at_edge": choice.at_edge,
    }


def _cluster(features: Features, division: Division, rows: Tensor, *, few: bool, seed: int) -> _Measured:
    train, test, classes, _ = division
    found = agreement(features.train, train, features.test, test, classes=classes, seed=seed)
    settings = {
        "clusters": classes,
        "selection": f"of {STARTS} starts the one whose training rows are nearest to their centroids",
        "matching": "of clusters with classes, on training rows",
    }
    return {"NMI": found.information, "ARI": found.rand, "accuracy": found.accuracy}, settings


def _retrieval(features: Features, division: Division, rows: Tensor, *, few: bool, seed: int) -> _Measured:
    asked = permutation(fold(seed, Stream.QUERIES), len(division.test))[:QUERIES].to(division.test.device)
    found = mean_average_precision(features.train, division.train, features.test[asked], division.test[asked])
    return {"mAP": found}, {"queries": len(asked), "gallery": "training rows"}


def _relation(features: Features, division: Division, rows: Tensor, *, few: bool, seed: int) -> _Measured:
    drawn = permutation(fold(seed, Stream.SIMILARITY), len(division.test))[:RELATED].to(division.test.device)
    test, labels = features.test[drawn], division.test[drawn]
    near = similarity.triplet_accuracy(test, labels, seed)
    kernels = similarity.with_labels(test, labels, division.classes)
    return {"triplets": near, "CKA": kernels}, {"reference": "labels", "images": len(drawn)}


def _taken(features: Tensor, labels: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The rows, without a copy where they are all."""
    if len(rows) == len(labels):
        return features, labels
    rows = rows.to(features.device)
    return features[rows], labels[rows]


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """In %."""
    return 100 * float((predicted == labels).double().mean())


def _merged(settings: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the draws have in common once, what differs as a list."""
    values = {key: [one[key] for one in settings] for key in settings[0]}
    return {key: each[0] if all(v == each[0] for v in each) else each for key, each in values.items()}
