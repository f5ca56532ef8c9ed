"""transfer: a linear probe of the same encoder on a second labeled set."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sanslabel.errors import BadInput
from sanslabel.evaluation.comparison import Comparison
from sanslabel.evaluation.probe import probe_predictions
from sanslabel.evaluation.protocol import Protocol
from sanslabel.evaluation.rounds import all_labels, scores_of_predictions
from sanslabel.scores import Score


@dataclass(frozen=True, kw_only=True)
class Transfer(Protocol):
    """The accuracy of a linear probe on other data than the encoder was trained on."""

    data: str | None = None
    """the second labeled set, which must be given"""

    title = "Linear accuracy on {data}, in %"
    needs = "a second labeled set"
    identified_by = ("fingerprints",)

    def check_comparison(self, comparison: Comparison) -> None:
        if self.data is None:
            raise BadInput("--protocols transfer needs a second labeled set; name it with --transfer.data.")
        comparison.labeled(self.data)

    def measure(self, comparison: Comparison) -> list[Score]:
        assert self.data is not None
        split = comparison.labeled(self.data)
        comparison.announce(split)
        second = replace(comparison, given=split.represented(comparison.readouts(split)))
        scores = scores_of_predictions(self, second, all_labels(second.division), probe_predictions(comparison.seed))
        about = {"data": str(split.data), "fingerprints": split.fingerprints}
        return [replace(score, settings={**score.settings, **about}) for score in scores]
