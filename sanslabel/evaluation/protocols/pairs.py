"""pairs: whether a picture finds its own sound among those of the test samples, and a sound its picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

from torch import Tensor

from sanslabel import checkpoint, methods
from sanslabel.constraints import Bounds
from sanslabel.evaluation.clip_scores import CHANCE
from sanslabel.evaluation.comparison import Comparison
from sanslabel.evaluation.matching import (
    centered,
    gain_of_true_pairs,
    places,
    places_by_chance,
    rounded_cosines,
)
from sanslabel.evaluation.protocol import NotMeasurable, Protocol
from sanslabel.evaluation.representation import represent
from sanslabel.methods.abilities import EmbedsSignals
from sanslabel.randomness import Stream, fold, permutation
from sanslabel.run_folder import RunFolder
from sanslabel.scores import Score

TRUE_PAIRS = "true against shuffled pairs"
"""the name of a row, in place of a representation"""


@dataclass(frozen=True, kw_only=True)
class Pairs(Protocol):
    """Retrieval between two signals of the same test samples, in both directions, beside chance.

    The embeddings of each signal are centered first: the two signals keep a distance from each other that says nothing
    about pairs. Recall at k is the share of samples whose partner is among the k nearest. Precision at k is the share
    of the sample's class among them; if several samples have one name, only this can be high. The AUROC is how often
    the cosine of a true pair exceeds that of a shuffled one.
    """

    samples: Annotated[int, Bounds(least=2, most=5000)] = 1000
    """test samples that are searched, at most"""

    title = "Finding the other signal of the same sample, in %, and the median rank"
    needs = "a run with an encoder for each of two signals"
    reads_labels = False
    identified_by = ("samples",)

    def check_comparison(self, comparison: Comparison) -> None:
        folder, plan = comparison.folder, comparison.images.plan
        method = None if plan is None or plan.method not in methods.names() else methods.method_class(plan.method)
        if folder is None or method is None or not issubclass(method, EmbedsSignals):
            raise NotMeasurable(
                "--protocols pairs: compares two signals, and this run embeds one; train cross_modal or avid, or leave "
                "the protocol out."
            )
        if not checkpoint.checkpoints(folder / "checkpoints"):
            raise NotMeasurable(
                f"--protocols pairs: {folder} has no checkpoint, and with it no projectors; leave the protocol out."
            )

    def measure(self, comparison: Comparison) -> list[Score]:
        comparison.report(f"Measuring {self.name}")
        source, (embeddings, index) = comparison.images.test, self.embeddings(comparison)
        (first, a), (second, b) = embeddings.items()
        cosine, labels = rounded_cosines(a, b), source.labels[index]
        settings = {"samples": len(index)}

        def score(row: str, metric: str, value: float) -> Score:
            return comparison.score(self, metric, row, value, comparison.images.all, settings, n_test=len(index))

        scores = []
        for row, row_places in {
            CHANCE: places_by_chance(len(index), labels),
            f"{first} finds {second}": places(cosine, labels, comparison.seed),
            f"{second} finds {first}": places(cosine.T, labels, comparison.seed),
        }.items():
            scores += [score(row, f"recall at {k}", value) for k, value in row_places.recall.items()]
            scores.append(score(row, "median rank", row_places.median_rank))
            scores += [score(row, f"precision at {k}", value) for k, value in row_places.precision.items()]
        gain = gain_of_true_pairs(cosine, None if source.group is None else source.group[index], comparison.seed)
        auroc = score(TRUE_PAIRS, "AUROC", 50 + gain.value)
        return [*scores, score(CHANCE, "AUROC", 50.0), replace(auroc, gains=(gain,))]

    def embeddings(self, comparison: Comparison) -> tuple[dict[str, Tensor], Tensor]:
        """Returns the centered embeddings of each signal, (n, D) each, and the positions (n,) of the test samples that
        were drawn and could be read. Raises NotMeasurable if the data lack a signal."""
        assert comparison.folder is not None
        images = comparison.images
        method, net = RunFolder.open(comparison.folder).networks(images.options["device"])
        assert isinstance(method, EmbedsSignals)
        drawn = permutation(fold(comparison.seed, Stream.MATCHING), len(images.test))[: self.samples].sort().values
        source, embedded, index = images.test.subset(drawn), dict[str, Tensor](), drawn
        for signal, embedder in method.embedders(net).items():
            if signal not in source.inputs:
                raise NotMeasurable(
                    f"--protocols pairs: {images.data} has no {signal}; name other data with --data, or leave the "
                    "protocol out."
                )
            options: Any = {**images.options, "reads": embedder[0].reads}
            features, index = represent({"": embedder}, source, **options)
            embedded[signal] = centered(features[""])
        return embedded, drawn[index.cpu()]
