"""relation: whether distances agree with the labels, or with the distances of another encoder."""

from __future__ import annotations

from dataclasses import dataclass

from sanslabel.evaluation.comparison import Comparison
from sanslabel.evaluation.protocol import Protocol
from sanslabel.evaluation.similarity import (
    alignment_of_kernels,
    alignment_with_labels,
    triplet_accuracy,
    triplet_agreement,
)
from sanslabel.randomness import Stream, fold, permutation
from sanslabel.scores import Score

SAMPLES = 5000
"""test samples whose distances are compared with labels"""


@dataclass(frozen=True, kw_only=True)
class Relation(Protocol):
    """The agreement of distances with the labels, and with another encoder if one is named, by triplets and CKA.

    Triplets measure how often an image is nearer to one of its class than to one of another class. CKA is the centered
    kernel alignment.
    """

    reference: str | None = None
    """the folder of another encoder; distances are compared with the distances of that encoder, too"""

    title = "Do distances follow labels, in %"
    identified_by = ("reference",)

    def check_comparison(self, comparison: Comparison) -> None:
        if self.reference is not None:
            comparison.subject(self.reference)

    def measure(self, comparison: Comparison) -> list[Score]:
        scores = self._with_labels(comparison)
        return scores if self.reference is None else scores + self._with_reference(comparison, self.reference)

    def _with_labels(self, comparison: Comparison) -> list[Score]:
        """Returns triplets and CKA with the labels."""
        division, seed = comparison.division, comparison.seed
        drawn = permutation(fold(seed, Stream.SIMILARITY), len(division.test))[:SAMPLES].to(division.test.device)
        labels = division.test[drawn]
        settings = {"reference": "labels", "images": len(drawn)}
        scores = []
        for name, features in comparison.features.items():
            comparison.report(f"Measuring {name}: {self.name}")
            test = features.test[drawn]
            figures = {"triplets": triplet_accuracy(test, labels, seed)}
            figures["CKA"] = alignment_with_labels(test, labels, division.classes)
            scores += [
                comparison.score(self, metric, name, x, division, settings, n_test=len(drawn))
                for metric, x in figures.items()
            ]
        return scores

    def _with_reference(self, comparison: Comparison, run: str) -> list[Score]:
        """Returns triplets and CKA with the features of another folder's encoder."""
        other, images = comparison.subject(run), comparison.images
        comparison.report(f"Comparing with the distances of {other.folder}")
        encoder = other.encoder.to(images.options["device"])
        features, division = images.represented({**comparison.representations, "": encoder})
        known = features[""].test
        settings = {"reference": f"{other.folder.resolve()} ({other.sha256[:12]})", "images": len(division.test)}
        scores = []
        for name in comparison.representations:
            test = features[name].test
            figures = {"triplets by reference": triplet_agreement(test, known, comparison.seed)}
            figures["CKA with reference"] = alignment_of_kernels(test, known)
            scores += [comparison.score(self, metric, name, x, division, settings) for metric, x in figures.items()]
        return scores
