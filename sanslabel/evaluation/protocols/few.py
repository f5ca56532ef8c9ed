"""few: a linear probe with 1 % and 10 % of the labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sanslabel.evaluation.comparison import Comparison
from sanslabel.evaluation.probe import probe_predictions
from sanslabel.evaluation.protocol import NotMeasurable, Protocol
from sanslabel.evaluation.rounds import few_label_rounds, scores_of_predictions
from sanslabel.scores import Score

SHARES, DRAWS = (1, 10), 3
"""percentages of the labels, and draws of each"""


@dataclass(frozen=True, kw_only=True)
class Few(Protocol):
    """The accuracy of a linear probe with 1 % and 10 % of the labels, equally many of each class. It is the mean over
    three draws."""

    title = "Linear accuracy with 1 % and 10 % of the labels, in %"

    def measure(self, comparison: Comparison) -> list[Score]:
        division, seed = comparison.division, comparison.seed
        rounds = few_label_rounds(division, _counts(comparison), DRAWS, seed)
        return scores_of_predictions(self, comparison, rounds, probe_predictions(seed))


def _counts(comparison: Comparison) -> list[int]:
    """Returns, for each share, the number of labels of each class. Raises NotMeasurable if a class has fewer."""
    division = comparison.division
    counts = [max(1, round(len(division.train) * share / 100 / division.classes)) for share in SHARES]
    least, rarest = torch.bincount(division.train, minlength=division.classes).min(dim=0)
    if least < max(counts):
        name = comparison.class_name(int(rarest))
        raise NotMeasurable(
            f"--protocols few: 10 % of the labels are {max(counts)} of each class, and {name} has {least} to fit on; "
            "leave few out, or label more images of that class."
        )
    return list(dict.fromkeys(counts))
