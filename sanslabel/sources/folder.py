"""A folder of image files, with or without a sub-folder for each class, decoded when asked for."""

from __future__ import annotations

import hashlib
import os
from array import array
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from statistics import fmean, median
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from sanslabel.batch import Images
from sanslabel.errors import BadInput
from sanslabel.inputs import ImageSpec
from sanslabel.randomness import permutation
from sanslabel.sources.decoded import Decoded
from sanslabel.sources.listing import listing
from sanslabel.sources.picture import Unreadable, bounded, picture, size
from sanslabel.sources.source import Loaded, Replaced, Request, Source, tolerated

LARGEST_DEFAULT = 224
LARGEST_HASHED = 1 << 24
"""bytes of a file whose content counts for the fingerprint"""
SURVEYED = 64
"""files looked at to tell color from grey, a fitting size, and one set of files from another"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Folder(Source):
    """Image files. `height` and `width` are the side to train at; images are decoded somewhat larger, see `side`."""

    root: Path
    paths: list[str]
    """relative to the root, sorted within each split"""
    decoded: Decoded | None = None
    """the pictures of these rows, as far as they need not be decoded any more"""

    @property
    def side(self) -> int:
        """The shorter side that larger images are reduced to, 256 for a training side of 224: crops need some room."""
        return round(self.height * 8 / 7)

    @cached_property
    def fingerprint(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Of all paths and sizes as they are now, and of the content of a fixed sample of the files: a copy of the data
        is the same data, and times do not count."""
        digest = hashlib.sha256(os.fsencode("\0".join(self.paths)))
        sizes, done = status(self.root, self.paths)[:, 0].astype("<i8"), 0
        for row in sorted(permutation(0, len(self))[:SURVEYED].tolist()):
            content = b""
            if sizes[row] <= LARGEST_HASHED:
                try:
                    content = (self.root / self.paths[row]).read_bytes()
                except OSError:
                    sizes[row] = -1
            digest.update(sizes[done : row + 1].tobytes() + content)
            done = row + 1
        digest.update(sizes[done:].tobytes())
        return digest.hexdigest()

    @property
    def decodes(self) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]
        absent = len(self) if self.decoded is None else self.decoded.absent
        return absent > tolerated(len(self))

    @cached_property
    def decoded_bytes(self) -> int:
        """What all pictures take when they are decoded, as a sample of the files lets expect."""
        sizes = []
        for row in permutation(0, len(self))[:SURVEYED].tolist():
            with suppress(Unreadable):
                sizes.append(prod(bounded(size(self.root / self.paths[row]), self.side)))
        return round(fmean(sizes or [0]) * self.channels * len(self))

    def id(self, index: int) -> str:
        return self.paths[index]

    @property
    def pictures(self) -> Folder:
        return self

    def with_pictures(self, pictures: Self) -> Self:
        return pictures

    def load(self, request: Request) -> Loaded:
        pictures, index, replaced = [], [], []
        for position, requested in enumerate(request.index.tolist()):
            pixels, row, unreadable = self._readable(requested)
            pictures.append(pixels)
            index.append(row)
            replaced += [Replaced(position, self.paths[bad], reason) for bad, reason in unreadable]
        sizes = np.array([pixels.shape[1:] for pixels in pictures], np.int64).reshape(-1, 2)
        height, width = sizes.max(0)
        canvas = zeros(len(index), self.channels, int(height), int(width))
        for image, pixels in zip(canvas.numpy(), pictures, strict=True):
            image[:, : pixels.shape[1], : pixels.shape[2]] = pixels
        filled = bool((sizes == sizes[0]).all())
        images = Images(canvas, None if filled else torch.from_numpy(sizes))
        return Loaded(torch.tensor(index), {"image": images}, replaced)

    def subset(self, index: Tensor) -> Self:
        paths = [self.paths[row] for row in index.tolist()]
        return replace(self, paths=paths, labels=self.labels[index], decoded=None)

    def _readable(self, asked: int) -> tuple[np.ndarray, int, list[tuple[int, str]]]:
        """The pixels of the row asked for or else of the next readable one, that row, and the bad ones before it."""
        unreadable = []
        for row in range(asked, asked + min(len(self), tolerated(len(self)) + 1)):
            row %= len(self)
            try:
                return self._picture(row), row, unreadable
            except Unreadable as error:
                unreadable.append((row, str(error)))
        raise BadInput(
            f"{self.root}: {len(unreadable)} images in a row cannot be read, from {self.paths[asked]} on"
            f" ({unreadable[0][1]}); remove or mend them."
        )

    def _picture(self, row: int) -> np.ndarray:
        pixels = None if self.decoded is None else self.decoded.pixels(row)
        return picture(self.root / self.paths[row], self.channels, self.side) if pixels is None else pixels


def zeros(*shape: int) -> Tensor:
    """uint8. A worker process makes them in memory that it shares with its parent, so that a batch is not copied to be
    handed over: 14 in place of 19 ms for 64 pictures of 341 x 341."""
    if get_worker_info() is None:
        # Not torch's: the thread that reads ahead would get threads of its own for that, and while there are more of
        # them than cores, each product of the main thread waits to be woken: 1.6 times as long for small ones.
        return torch.from_numpy(np.zeros(shape, np.uint8))
    shared = torch.UntypedStorage._new_shared(prod(shape))  # zeros, as the system gives it
    return torch.empty(0, dtype=torch.uint8).set_(shared, 0, shape)  # pyright: ignore[reportCallIssue]


def status(root: Path, paths: list[str]) -> np.ndarray:
    """(N, 3) int64: bytes of each file, and when its content and its entry last changed, in ns; -1 for a file that is
    not there. 2.7 s for a million; by threads, or within open folders, it is no faster."""
    found, folder = array("q"), os.fspath(root)
    for path in paths:
        try:
            said = os.stat(f"{folder}/{path}")
            found.extend((said.st_size, said.st_mtime_ns, said.st_ctime_ns))
        except OSError:
            found.extend((-1, -1, -1))
    return np.frombuffer(found, np.int64).reshape(-1, 3)


def splits(root: Path) -> tuple[str, ...]:
    """What the folder is divided into: train/ and test/ (or val/, where there is no test/), if it has both."""
    return ("train", "test") if _part(root, "test") else ("train",)


def folder(root: Path, split: str, image_size: int | None, channels: int | None) -> Folder:
    """The images of one split, or of "all". The label is the sub-folder, if all images lie in sub-folders and there
    are at least two. Without `image_size` or `channels`, a sample of the files decides."""
    if channels not in (None, 1, 3):
        raise BadInput(f"{root}: images in files can be had with 1 or 3 channels, not {channels}.")
    files = listing(root)
    if not files:
        raise BadInput(f"{root} holds no images (JPEG, PNG, WebP, BMP, GIF or TIFF); give a folder that does.")
    parts = {part: _rows(files, _part(root, part)) for part in splits(root)}
    rows = [row for part, members in parts.items() if split in (part, "all") for row in members]
    if not rows:
        raise BadInput(f"{root / _part(root, split)} holds no images (JPEG, PNG, WebP, BMP, GIF or TIFF).")
    # Looked at for all splits together, so that training and test images get the same classes, channels and size.
    named = {row: name for part, members in parts.items() for row, name in _names(files, members, _part(root, part))}
    classes = tuple(sorted(set(named.values())))
    labels = torch.full((len(rows),), -1)
    if len(classes) > 1:
        position = {name: label for label, name in enumerate(classes)}
        labels = torch.tensor([position[named[row]] if row in named else -1 for row in rows])
    if image_size is None or channels is None:
        surveyed_size, surveyed_channels = _survey(root, files)
        image_size, channels = image_size or surveyed_size, channels or surveyed_channels
    return Folder(
        name=root.resolve().name,
        split=split,
        root=root,
        paths=[files[row] for row in rows],
        labels=labels,
        classes=classes if bool((labels >= 0).any()) else (),
        inputs={"image": ImageSpec(channels=channels, height=image_size, width=image_size)},
    )


def _part(root: Path, split: str) -> str:
    """The sub-folder of a split with its slash; "" for the training split of a folder that is not divided, and for a
    test split that there is not."""
    test = next((name for name in ("test", "val") if (root / name).is_dir()), "")
    if not test or not (root / "train").is_dir():
        return ""
    name = test if split == "test" else "train"
    there = os.listdir(root)
    if name not in there:  # where the system finds "Train" by that name, too
        name = next((entry for entry in there if entry.casefold() == name), name)
    return f"{name}/"


def _rows(files: list[str], prefix: str) -> list[int]:
    return [row for row, path in enumerate(files) if path.startswith(prefix)]


def _names(files: list[str], rows: list[int], prefix: str) -> list[tuple[int, str]]:
    """The row and class name of each image; none if one of them lies in no sub-folder."""
    split = [(row, *files[row][len(prefix) :].partition("/")) for row in rows]
    return [(row, name) for row, name, _, _ in split] if all(rest for _, _, _, rest in split) else []


def _survey(root: Path, paths: list[str]) -> tuple[int, int]:
    """A side to train at and a channel count that fit a fixed sample of the files: the median of the shorter sides, but
    at most 224, and down to a multiple of 8 where there is room; 1 channel where no image has color."""
    sides, color, reasons = [], False, []
    for row in permutation(0, len(paths))[:SURVEYED].tolist():
        try:
            pixels = picture(root / paths[row], 3, SURVEYED)
            sides.append(min(size(root / paths[row])))
        except Unreadable as error:
            reasons.append(f"{paths[row]}: {error}")
        else:
            color |= bool((pixels != pixels[:1]).any())
    if not sides:
        raise BadInput(f"{root}: none of the {len(reasons)} images looked at can be read ({reasons[0]}).")
    side = min(LARGEST_DEFAULT, int(median(sides)))
    return side // 8 * 8 if side >= 32 else side, 3 if color else 1
