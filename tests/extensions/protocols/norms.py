"""norms: the mean length of representations."""

from dataclasses import dataclass

from torch import Tensor

from sanslabel.evaluation.comparison import Comparison
from sanslabel.evaluation.features import Division, Features
from sanslabel.evaluation.protocol import Protocol
from sanslabel.evaluation.rounds import all_labels, scores_of_rounds
from sanslabel.scores import Score


@dataclass(frozen=True, kw_only=True)
class Norms(Protocol):
    """The mean Euclidean norm of the test samples' representations."""

    title = "Mean norm"

    def measure(self, comparison: Comparison) -> list[Score]:
        """Returns the mean norm of each representation."""

        def norm(features: Features, division: Division, index: Tensor, few: bool):
            return float(features.test.norm(dim=1).mean()), {}

        return scores_of_rounds(self, comparison, all_labels(comparison.division), norm)
