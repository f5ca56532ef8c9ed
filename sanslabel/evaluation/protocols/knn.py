"""knn: the vote of the nearest training samples by cosine, with all labels and with few."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from typing import Annotated, Any

from torch import Tensor

from sanslabel.constraints import Bounds
from sanslabel.errors import BadInput
from sanslabel.evaluation.comparison import Comparison
from sanslabel.evaluation.features import Division, Features, take
from sanslabel.evaluation.knn import predictions
from sanslabel.evaluation.protocol import Protocol
from sanslabel.evaluation.rounds import all_labels, few_label_rounds, scores_of_predictions
from sanslabel.scores import Score

NEIGHBORS = 20
"""neighbors that vote by default, as in DINO (Caron et al. 2021)"""


@dataclass(frozen=True, kw_only=True)
class KNN(Protocol):
    """The accuracy of the nearest neighbors' vote, each weighted by exp(cosine / temperature)."""

    k: Annotated[int, Bounds(least=1)] | None = None
    """neighbors that vote; by default 20, or all training samples if they are fewer"""
    temperature: Annotated[float, Bounds(above=0, most=inf)] = 0.07
    """temperature of the votes; inf counts all votes alike"""
    labels_per_class: Annotated[int, Bounds(least=1)] = 10
    """labels of each class in the second round"""
    draws: Annotated[int, Bounds(least=1)] = 5
    """draws of those few labels"""

    heading = "kNN"
    identified_by = ("k", "temperature")

    def check_comparison(self, comparison: Comparison) -> None:
        split = comparison.images
        if self.k is not None and self.k > len(split.train):
            raise BadInput(
                f"--knn.k {self.k}: {split.data} has {len(split.train):,} images to fit on; give at most as many."
            )

    def measure(self, comparison: Comparison) -> list[Score]:
        split, division = comparison.split, comparison.division
        samples = len(division.train if split is None else split.train)
        k = min(NEIGHBORS, samples) if self.k is None else self.k
        # JSON knows no infinity: null stands for the plain vote.
        settings = {"k": k, "temperature": self.temperature if isfinite(self.temperature) else None}

        def vote(features: Features, division: Division, index: Tensor, few: bool) -> tuple[Tensor, dict[str, Any]]:
            bank, labels = take(features.train, division.train, index)
            predicted = predictions(
                bank, labels, features.test, classes=division.classes, k=k, temperature=self.temperature
            )
            return predicted, settings

        few = few_label_rounds(division, [self.labels_per_class], self.draws, comparison.seed)
        return scores_of_predictions(self, comparison, {**all_labels(division), **few}, vote)
