"""linear: a linear probe (multinomial logistic regression), with all labels and with few."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sanslabel.constraints import Bounds
from sanslabel.evaluation.comparison import Comparison
from sanslabel.evaluation.probe import probe_predictions
from sanslabel.evaluation.protocol import Protocol
from sanslabel.evaluation.rounds import all_labels, few_label_rounds, scores_of_predictions
from sanslabel.scores import Score


@dataclass(frozen=True, kw_only=True)
class Linear(Protocol):
    """The accuracy of a linear probe whose penalty is chosen on held-out training samples."""

    labels_per_class: Annotated[int, Bounds(least=1)] = 10
    """labels of each class in the second round"""
    draws: Annotated[int, Bounds(least=1)] = 5
    """draws of those few labels"""

    def measure(self, comparison: Comparison) -> list[Score]:
        division, seed = comparison.division, comparison.seed
        few = few_label_rounds(division, [self.labels_per_class], self.draws, seed)
        return scores_of_predictions(self, comparison, {**all_labels(division), **few}, probe_predictions(seed))
