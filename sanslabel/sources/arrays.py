"""Small sets that lie in memory as one tensor, and what their file formats have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from sanslabel.errors import BadInput
from sanslabel.memory_limits import main_memory
from sanslabel.sources.source import Loaded, Source

DEFLATED = 1032
"""bytes that one packed by deflate can stand for, at most"""
_PIECE = 1 << 20


class Part(NamedTuple):
    """One split in a file: its labels, and its images for when they are asked for."""

    images: Callable[[], np.ndarray]
    """-> (N, C, H, W), uint8 or float32 in [0, 1]"""
    labels: np.ndarray | None
    """(N,) integers, -1 where there is none"""
    file: Path
    """to be named when labels and images do not fit"""


class Stored(NamedTuple):
    """What files of arrays hold."""

    parts: Mapping[str, Part]
    """"train", "test" or both, in this order"""
    classes: tuple[str, ...] = ()
    """names of the labels 0, 1, …, where the files tell them"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Arrays(Source):
    """Images of one size in one tensor, which a training run keeps on its device."""

    images: Tensor
    """(N, C, H, W), uint8 or float32 in [0, 1]"""
    rows: Tensor
    """(N,) int64, the row in its file; of a test sample the complement ~row, so that ids say which split"""

    @cached_property
    def fingerprint(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        digest = hashlib.sha256(repr((self.images.shape, self.images.dtype, self.classes)).encode())
        digest.update(self.images.contiguous().numpy().data)
        digest.update(self.labels.contiguous().numpy().data)
        return digest.hexdigest()

    def id(self, index: int) -> str:
        row = int(self.rows[index])
        return f"train/{row}" if row >= 0 else f"test/{~row}"

    def load(self, index: list[int]) -> Loaded:
        rows = torch.tensor(index, dtype=torch.int64)
        return Loaded(self.images[rows], None, [], rows)

    def subset(self, index: Tensor) -> Self:
        return replace(self, images=self.images[index], labels=self.labels[index], rows=self.rows[index])


def arrays(name: str, stored: Stored, split: str) -> Arrays:
    """The samples of one split, or of "all".

    Labels become positions in `classes`: in the names that the files tell, else in the sorted values of all splits.
    """
    chosen = {part: stored.parts[part] for part in stored.parts if split in (part, "all")}
    images, labels, rows = [], [], []
    for part, (read, told, file) in chosen.items():
        pixels = read()
        if told is None:
            told = np.full(len(pixels), -1)
        if len(told) != len(pixels):
            raise BadInput(f"{file}: {len(told)} labels for {len(pixels)} images; every image needs one (-1 for none).")
        if len(pixels) == 0 or 0 in pixels.shape:
            raise BadInput(f"{file} holds no pixels (shape {pixels.shape}); give a file with images in it.")
        if images and (pixels.shape[1:] != images[0].shape[1:] or pixels.dtype != images[0].dtype):
            raise BadInput(f"{file}: training and test images differ in shape or type; open one split at a time.")
        images.append(pixels)
        labels.append(_positions(told, stored))
        rows.append(np.arange(len(pixels)) if part == "train" else ~np.arange(len(pixels)))
    pixels = np.concatenate(images) if len(images) > 1 else images[0]  # one split is not copied
    positions = torch.from_numpy(np.concatenate(labels))
    return Arrays(
        name=name,
        split=split,
        images=torch.from_numpy(pixels),
        labels=positions,
        rows=torch.from_numpy(np.concatenate(rows)),
        classes=_classes(stored) if bool((positions >= 0).any()) else (),
        channels=pixels.shape[1],
        height=pixels.shape[2],
        width=pixels.shape[3],
    )


def _values(stored: Stored) -> np.ndarray:
    """The sorted labels of all splits: opening one split alone must not renumber its classes."""
    if stored.classes:
        return np.arange(len(stored.classes))
    told = [part.labels for part in stored.parts.values() if part.labels is not None]
    return np.unique(np.concatenate([labels[labels >= 0] for labels in told])) if told else np.arange(0)


def _classes(stored: Stored) -> tuple[str, ...]:
    return stored.classes or tuple(str(value) for value in _values(stored))


def _positions(labels: np.ndarray, stored: Stored) -> np.ndarray:
    """(N,) int64: the position of each label among the classes, -1 for none."""
    return np.where(labels < 0, -1, np.searchsorted(_values(stored), labels)).astype(np.int64)


class Bytes(Protocol):
    """What is read from: a file, or what unpacks one."""

    def read(self, size: int = -1, /) -> bytes: ...


def content(file: Bytes, announced: int, held: int, path: Path) -> np.ndarray:
    """The next `announced` bytes of a file that can hold no more than `held`, (announced,) uint8. What is announced is
    believed only so far: BadInput, before memory is taken, for more than the file or the machine has."""
    if announced > held:
        raise BadInput(
            f"{path} announces {announced:,} bytes and has {held:,} at most: it is cut off or damaged; fetch it again."
        )
    if announced > main_memory():
        raise BadInput(f"{path} holds {announced:,} bytes, more than this machine's memory; give fewer images.")
    found, read = np.empty(announced, np.uint8), 0
    while piece := file.read(min(_PIECE, announced - read)):
        found[read : read + len(piece)] = np.frombuffer(piece, np.uint8)
        read += len(piece)
    if read < announced:
        raise BadInput(
            f"{path} announces {announced:,} bytes and has {read:,}: it is cut off or damaged; fetch it again."
        )
    return found


def checked_labels(labels: np.ndarray, file: Path, classes: int = 0) -> np.ndarray:
    """Labels as int64, or BadInput: one axis, integers, none below -1, all below `classes` where that is known."""
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise BadInput(f"{file}: labels must be integers of shape (N,), not {labels.dtype} of shape {labels.shape}.")
    labels = labels.astype(np.int64)
    if len(labels) and (labels.min() < -1 or (classes and labels.max() >= classes)):
        allowed = f"from 0 to {classes - 1}" if classes else "0 or more"
        raise BadInput(f"{file}: labels must be {allowed} (-1 for none), not {labels.min()} to {labels.max()}.")
    return labels
