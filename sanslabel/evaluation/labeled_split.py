"""The labeled images that protocols share: those to fit on, those to measure on, and how they are represented."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sanslabel.errors import BadInput
from sanslabel.evaluation.feature_cache import FeatureCache
from sanslabel.evaluation.linear import parts
from sanslabel.evaluation.protocols import Division, Features
from sanslabel.evaluation.representation import Encoder, represent
from sanslabel.sources import Source, open_source, splits


class Unlabeled(BadInput):
    """There are no labels to evaluate with."""


@dataclass(frozen=True)
class LabeledSplit:
    """Labeled images to fit on and to measure on, and how they are represented."""

    data: str
    train: Source
    test: Source
    split: str
    """what the images to measure on are called"""
    options: Mapping[str, Any]
    """of `represent`"""
    memo: FeatureCache

    def represented(self, compared: Mapping[str, Encoder]) -> tuple[dict[str, Features], Division]:
        """The features of readable rows by name, (N, D) and (M, D), and the labels of these."""
        on_train, train_rows = self.features(compared, self.train)
        on_test, test_rows = self.features(compared, self.test)
        home = next(iter(on_train.values())).device
        labels = self.train.labels[train_rows].to(home), self.test.labels[test_rows].to(home)
        features = {name: Features(on_train[name], on_test[name]) for name in compared}
        return features, Division(*labels, len(self.train.classes), self.split)

    @property
    def all(self) -> Division:
        """The labels of all rows, readable or not."""
        return Division(self.train.labels, self.test.labels, len(self.train.classes), self.split)

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of the images to fit on and to measure on."""
        return {"train": self.train.fingerprint, "test": self.test.fingerprint}

    def fewer(self, drawn: Tensor) -> LabeledSplit:
        """With these rows alone to fit on."""
        return replace(self, train=self.train.subset(drawn))

    def features(self, compared: Mapping[str, Encoder], source: Source) -> tuple[dict[str, Tensor], Tensor]:
        """Each encoder's representation and the rows that could be read, from the memo where it has them."""
        places = {name: self.memo.place(encoder, source, self.options) for name, encoder in compared.items()}
        device, samples = self.options["device"], len(source)
        recalled = {name: self.memo.recalled(place, device, samples) for name, place in places.items()}
        known = {name: pair for name, pair in recalled.items() if pair is not None}
        missing = {name: encoder for name, encoder in compared.items() if name not in known}
        if not missing and _alike(rows := [of for _, of in known.values()]):
            return {name: known[name][0] for name in compared}, rows[0]
        found, read = represent(missing or compared, source, **self.options)
        if not _alike([read, *(of for _, of in known.values())]):
            # A file could not be read then and can be now, or the other way round: all encoders read again.
            known, missing = {}, compared
            found, read = represent(compared, source, **self.options)
        for name in missing:
            self.memo.keep(places[name], found[name], read)
        return {name: known[name][0] if name in known else found[name] for name in compared}, read


def labeled_split(
    data: str | Path, size: int, channels: int, seed: int, options: Mapping[str, Any], memo: FeatureCache
) -> LabeledSplit:
    """The training and test split of labeled data; without a test split a fifth of the rows, fixed by the seed, is
    measured. Unlabeled where there are no labels of two classes."""
    train = _labeled(open_source(data, "train", image_size=size, channels=channels))
    test = None
    if "test" in splits(data):
        test = _labeled(open_source(data, "test", image_size=size, channels=channels))
    if len(train) == 0:
        raise Unlabeled(f"{data} has no labels: kNN and linear accuracy need some; name labeled data with --data.")
    if test is not None and len(test):
        if test.classes != train.classes:
            raise BadInput(f"{data}: training and test split have other classes; give both the same class folders.")
        split = "test split"
    else:
        part = parts(train.labels, seed)
        train, test = train.subset((part != 0).nonzero()[:, 0]), train.subset((part == 0).nonzero()[:, 0])
        split = "a fifth of the labeled images"
    if len(train.labels.unique()) < 2 or len(test) == 0:
        raise Unlabeled(f"{data} has labels of one class alone: give labels of two classes or more with --data.")
    return LabeledSplit(str(data), train, test, split, {**options, "image_size": size}, memo)


def _labeled(source: Source) -> Source:
    return source if bool((source.labels >= 0).all()) else source.subset((source.labels >= 0).nonzero()[:, 0])


def _alike(rows: list[Tensor]) -> bool:
    return all(torch.equal(rows[0], of) for of in rows[1:])
