"""The mistakes of a linear classifier that reads a representation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from sanslabel.evaluation import Unlabeled
from sanslabel.evaluation.feature_cache import FeatureCache
from sanslabel.evaluation.labeled_split import labeled_split
from sanslabel.evaluation.probe import chosen_probe
from sanslabel.evaluation.representation import RepresentOptions
from sanslabel.randomness import Stream
from sanslabel.report.options import Options
from sanslabel.report.picture_map import drawn_positions
from sanslabel.run_folder import RunFolder, data_of_run, with_vocabulary
from sanslabel.wording import counted

PROBE_IMAGES = 20_000
"""training images that the probe is fitted on, at most"""


class Mistakes(NamedTuple):
    """The number of test images for each true and predicted class."""

    classes: Sequence[str]
    counts: Sequence[Sequence[int]]
    """by true class, then by predicted class"""
    noun: str = "image"
    """the word for a sample"""


def mistakes(folder: RunFolder, options: Options, log: Callable[[str], None]) -> Mistakes | None:
    """Returns the mistakes of a probe on the test images, or None without labels. Raises BadInput if the data are
    missing or do not fit."""
    plan, encoder = folder.known_plan, folder.encoder().to(options.device)
    computing: RepresentOptions = {
        "device": options.device,
        "dtype": getattr(torch, plan.precision),
        "workers": plan.workers,
        "reads": encoder.reads,
    }
    data = with_vocabulary(data_of_run(plan, options.data), folder.path, [encoder.reads])
    try:
        split = labeled_split(data, options.seed, computing, FeatureCache(folder.path / "features"), plan)
    except Unlabeled:
        return None
    if len(split.train) > PROBE_IMAGES:
        split = split.fewer(drawn_positions(len(split.train), PROBE_IMAGES, options.seed, Stream.MAP_PROBE))
    log(f"Fitting a linear probe on {counted(len(split.train), split.train.noun)} of {split.train.name}")
    train, train_index = split.features({"": encoder}, split.train)
    test, test_index = split.features({"": encoder}, split.test)
    classes = split.train.classes
    labels = split.train.labels[train_index]
    probe, _ = chosen_probe(train[""].cpu(), labels, classes=len(classes), seed=options.seed)
    predicted = probe.predictions(test[""].cpu())
    counts = torch.zeros(len(classes), len(classes), dtype=torch.int64)
    counts.index_put_((split.test.labels[test_index], predicted), torch.ones_like(predicted), accumulate=True)
    return Mistakes(classes, counts.tolist(), split.train.noun)
