"""layers: a linear probe on each stage of the encoder, pooled to about 2,048 numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sanslabel.evaluation.comparison import Comparison
from sanslabel.evaluation.feature_cache import FeatureCache
from sanslabel.evaluation.features import Features
from sanslabel.evaluation.probe import probe_accuracy
from sanslabel.evaluation.protocol import Protocol
from sanslabel.evaluation.rounds import all_labels, scores_of_rounds
from sanslabel.evaluation.stages import Stages
from sanslabel.evaluation.subjects import encoder_of_full_images
from sanslabel.randomness import Stream, fold, permutation
from sanslabel.scores import Score

SAMPLES = 20_000
"""the most training samples that probes are fitted on: with 2,048 numbers a stage they take 0.2 GB"""


@dataclass(frozen=True, kw_only=True)
class Layers(Protocol):
    """The accuracy of a linear probe on each stage. Up to 20,000 training samples are used, since all their stages are
    in memory at once."""

    title = "Linear accuracy of stages in %"

    def measure(self, comparison: Comparison) -> list[Score]:
        images, seed = comparison.images, comparison.seed
        comparison.report(f"Representing the stages of {' and '.join(comparison.encoders)}")
        drawn = permutation(fold(seed, Stream.STAGE_SAMPLES), len(images.train))[:SAMPLES].sort().values
        # These features are too large for the cache.
        images = replace(images.fewer(drawn), cache=FeatureCache(None))
        stages = {
            name: Stages(encoder_of_full_images(encoder, images.train, images.options))
            for name, encoder in comparison.encoders.items()
        }
        features, division = images.represented(stages)
        scores = []
        for name, encoder in stages.items():
            by_stage = zip(*(split.split(encoder.widths, dim=1) for split in features[name]), strict=True)
            for stage, pair in enumerate(by_stage, 1):
                one = replace(comparison, given=({name: Features(*pair)}, division))
                measured = scores_of_rounds(self, one, all_labels(division), probe_accuracy(seed))
                scores += [replace(score, stage=stage) for score in measured]
        return scores
