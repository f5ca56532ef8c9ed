"""The samples that protocols share: those to fit on, those to measure on, and their features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sanslabel import methods
from sanslabel.errors import BadInput
from sanslabel.evaluation.feature_cache import FeatureCache
from sanslabel.evaluation.features import Division, Features, Frames
from sanslabel.evaluation.representation import Representation, RepresentOptions, represent
from sanslabel.inputs import ImageSpec, InputSpec
from sanslabel.run_config import Plan
from sanslabel.sources import AnyData, Source, Split, data_of, open_source, splits
from sanslabel.sources.held_out import SEED, fifth_of_clips, labeled, measured_fifth
from sanslabel.wording import plural


class Unlabeled(BadInput):
    """Data without the labels that evaluation needs."""


@dataclass(frozen=True)
class EvaluationSplit:
    """Samples to fit on and to measure on."""

    data: AnyData
    train: Source
    test: Source
    split: str
    """the name of the images to measure on"""
    options: RepresentOptions
    """the options of `represent`"""
    cache: FeatureCache
    plan: Plan | None = None
    """the plan of the run whose encoder is measured; None for an encoder without one"""
    trained_on: str = ""
    """how that run was trained on the images to measure on, see `Score`"""

    def represented(self, compared: Mapping[str, Representation]) -> tuple[dict[str, Features], Division]:
        """Returns the features of readable images by name, (N, D) and (M, D), and their labels."""
        on_train, train_index = self.features(compared, self.train)
        on_test, test_index = self.features(compared, self.test)
        home = next(iter(on_train.values())).device
        labels = self.train.labels[train_index].to(home), self.test.labels[test_index].to(home)
        features = {name: Features(on_train[name], on_test[name]) for name in compared}
        frames = _frames(self.train, train_index), _frames(self.test, test_index)
        return features, self.all._replace(
            train=labels[0], test=labels[1], train_frames=frames[0], test_frames=frames[1]
        )

    @property
    def all(self) -> Division:
        """Returns the labels of all images, readable or not."""
        labels, classes = (self.train.labels, self.test.labels), len(self.train.classes)
        return Division(*labels, classes, self.split, self.trained_on, noun=self.train.noun)

    @property
    def fingerprints(self) -> dict[str, str]:
        """Returns the fingerprints of the images to fit on and to measure on, and of the file that states their
        labels."""
        labels = {"labels": self.train.labels_sha256} if self.train.labels_sha256 else {}
        return {"train": self.train.fingerprint, "test": self.test.fingerprint, **labels}

    def fewer(self, index: Tensor) -> EvaluationSplit:
        """Returns the split with fewer images to fit on: only those at the positions `index`, (n,)."""
        return replace(self, train=self.train.subset(index))

    def features(self, compared: Mapping[str, Representation], source: Source) -> tuple[dict[str, Tensor], Tensor]:
        """Returns the features (n, D) of each representation and the positions (n,) of the images that could be read.

        Features that the cache has are not computed again.
        """
        files = {name: self.cache.file(encoder, source, self.options) for name, encoder in compared.items()}
        cached = {name: self.cache.load(file, self.options["device"], len(source)) for name, file in files.items()}
        known = {name: pair for name, pair in cached.items() if pair is not None}
        missing = {name: encoder for name, encoder in compared.items() if name not in known}
        if not missing and _all_equal(indexes := [index for _, index in known.values()]):
            return {name: known[name][0] for name in compared}, indexes[0]
        computed, index = represent(missing or compared, source, **self.options)
        if not _all_equal([index, *(index for _, index in known.values())]):
            # The files that can be read have changed since the features were cached: all are computed again.
            known, missing = {}, compared
            computed, index = represent(compared, source, **self.options)
        for name in missing:
            self.cache.save(files[name], computed[name], index)
        return {name: known[name][0] if name in known else computed[name] for name in compared}, index


def labeled_split(
    data: AnyData, seed: int, options: RepresentOptions, cache: FeatureCache, plan: Plan | None = None
) -> EvaluationSplit:
    """Returns the training and test split of labeled data, for an encoder that reads the input `options["reads"]`.

    Without a test split, a fifth of the labeled samples, fixed by the seed, is measured, and of clips a fifth of the
    clips. If the run of the plan left
    out a fifth of these data in training, it is that fifth. The options are those of `represent`. Raises Unlabeled if
    there are labels of fewer than two classes, and BadInput if the data have no input for the encoder.
    """
    source = open_for(options["reads"], data, "train")
    train = labeled(source)
    test = labeled(open_for(options["reads"], data, "test")) if "test" in splits(data) else None
    if len(train) == 0:
        why = f" ({train.no_labels})" if train.no_labels else ""
        raise Unlabeled(f"{data} has no labels{why}, which evaluation needs; name labeled data with --data.")
    split, trained_on = "test split", ""
    if test is None or len(test) == 0:
        split = f"a fifth of the labeled {plural(train.noun)}"
        measured = measured_fifth(train, seed)
        if plan is not None and plan.held_out and _trained_without_fifth(plan, source):
            measured = measured_fifth(train, SEED)
        elif plan is not None and _trained_on_all(plan, source, data, options["reads"]):
            trained_on = "with labels" if _learns_from_labels(plan) else "without labels"
        train, test = train.subset((~measured).nonzero()[:, 0]), train.subset(measured.nonzero()[:, 0])
    elif test.classes != train.classes:
        raise BadInput(
            f"{data}: the training and the test split have different classes; give both the same class folders."
        )
    if len(train.labels.unique()) < 2 or len(test) == 0:
        raise Unlabeled(f"{data} has labels of a single class; name data with two classes or more with --data.")
    return EvaluationSplit(data, train, test, split, options, cache, plan, trained_on)


def unlabeled_split(
    data: AnyData, seed: int, options: RepresentOptions, cache: FeatureCache, plan: Plan | None = None
) -> EvaluationSplit:
    """Returns the training and test split of data without labels, for protocols that read none.

    Without a test split, a fifth of the clips, fixed by the seed, is measured, or of the samples if there are no clips.
    A single clip is both. The arguments are those of `labeled_split`.
    """
    train, name, trained_on = open_for(options["reads"], data, "train"), "test split", ""
    if "test" in splits(data):
        test = open_for(options["reads"], data, "test")
    else:
        name = f"a fifth of the {plural(train.noun)}" if train.group is None else "a fifth of the clips"
        trained_on = "without labels" if plan and _trained_on_all(plan, train, data, options["reads"]) else ""
        measured = fifth_of_clips(train, seed)
        test = train.subset(measured.nonzero()[:, 0])
        train = train if measured.all() else train.subset((~measured).nonzero()[:, 0])
    return EvaluationSplit(data, train, test, name, options, cache, plan, trained_on)


def _frames(source: Source, index: Tensor) -> Frames | None:
    """Returns the clip and time of the samples at the positions (n,), or None if the source has no time."""
    if source.group is None or source.time is None:
        return None
    return Frames(source.group.cpu(), source.time.cpu()).select(index.cpu())


def open_for(reads: InputSpec, data: AnyData, split: Split) -> Source:
    """Returns a split of the data for an encoder; images are opened at its size, with its channels and levels. Raises
    BadInput if the data have no input for the encoder."""
    images: dict[str, Any] = {}
    if isinstance(reads, ImageSpec):
        images = {"image_size": reads.side, "channels": reads.channels, "levels": reads.levels}
    source = open_source(data, split, **images)
    if not any(isinstance(spec, type(reads)) for spec in source.inputs.values()):
        kind = type(reads).__name__.removesuffix("Spec").lower()
        raise BadInput(f"{data}: has no {kind} for the encoder to read; name other data with --data.")
    return source


def _trained_without_fifth(plan: Plan, source: Source) -> bool:
    """Returns True if the run was trained on this source without the fifth that evaluation measures by default."""
    return source.subset((~measured_fifth(source, SEED)).nonzero()[:, 0]).fingerprint == plan.fingerprint


def _trained_on_all(plan: Plan, source: Source, data: AnyData, reads: InputSpec) -> bool:
    """Returns True if the run was trained on this source. Runs of earlier versions counted copies of files."""
    if source.fingerprint == plan.fingerprint or not plan.copies:
        return source.fingerprint == plan.fingerprint
    return open_for(reads, data_of(data, copies=True), "train").fingerprint == plan.fingerprint


def _learns_from_labels(plan: Plan) -> bool:
    return plan.method in methods.names() and methods.method_class(plan.method).learns_from_labels


def _all_equal(indexes: Sequence[Tensor]) -> bool:
    """Returns True if all tensors hold the same positions."""
    return all(torch.equal(indexes[0], index) for index in indexes[1:])
