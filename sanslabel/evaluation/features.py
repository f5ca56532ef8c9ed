"""Features and labels of the training and test samples, as protocols compare them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sanslabel.randomness import permutation


class Features(NamedTuple):
    """The features of one representation."""

    train: Tensor
    """(N, D)"""
    test: Tensor
    """(M, D)"""


class Frames(NamedTuple):
    """The places of samples in clips."""

    group: Tensor
    """(N,) int64, the clip of each sample"""
    time: Tensor
    """(N,) float64, seconds since the start of the clip"""

    def select(self, index: Tensor) -> Frames:
        """Returns the frames at the positions (n,)."""
        return Frames(self.group[index], self.time[index])


class Division(NamedTuple):
    """The labels of training and test samples, which all representations share."""

    train: Tensor
    """(N,) int64 in [0, classes), -1 for data without labels"""
    test: Tensor
    """(M,) int64 in [0, classes), -1 for data without labels"""
    classes: int
    split: str
    """the name of the test samples"""
    trained_on: str = ""
    """how the run was trained on the test samples, see `Score`"""
    train_frames: Frames | None = None
    """the clip and time of each training sample, on the CPU; None for data without time"""
    test_frames: Frames | None = None
    """the clip and time of each test sample, on the CPU; None for data without time"""
    noun: str = "image"
    """the word for a sample"""


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Returns the share of equal entries of (M,) and (M,), in %."""
    return 100 * float((predicted == labels).double().mean())


def few_labels(labels: Tensor, per_class: int, key: int) -> Tensor:
    """Returns the positions of `per_class` labels of each class, drawn by the key. A class that has fewer gives all of
    them.

    labels: (N,) -> (n,) int64, ascending, on the CPU.
    """
    order = permutation(key, len(labels))
    order = order[labels.cpu()[order].argsort(stable=True)]  # by class, in random order within
    sorted_labels = labels.cpu()[order]
    rank = torch.arange(len(order)) - torch.searchsorted(sorted_labels, sorted_labels)  # within the class
    return order[rank < per_class].sort().values


def take(features: Tensor, labels: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the entries of features (N, D) and labels (N,) at the positions (n,). Nothing is copied if all are
    taken."""
    if len(index) == len(labels):
        return features, labels
    index = index.to(features.device)
    return features[index], labels[index]
