"""Image files of a store, decoded when they are requested."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import prod
from statistics import fmean
from typing import BinaryIO, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from sanslabel.batch import Images
from sanslabel.errors import BadInput
from sanslabel.inputs import DECODE_FACTOR, ImageSpec
from sanslabel.randomness import permutation
from sanslabel.sources.folders.copies import equal_pictures
from sanslabel.sources.folders.labeled_files import labeled_files
from sanslabel.sources.pictures.picture import bounded, picture
from sanslabel.sources.pictures.picture_file import PictureFile
from sanslabel.sources.pictures.stored_picture import size
from sanslabel.sources.pictures.survey import SURVEYED, survey
from sanslabel.sources.source import Loaded, Replaced, Request, Source, Wanted, tolerated
from sanslabel.sources.stores.store import Store, Unreadable
from sanslabel.sources.videos.frame_folders import classes_of_clips, frame_folders

KINDS = "JPEG, PNG, WebP, BMP, GIF or TIFF"


@dataclass(frozen=True, kw_only=True, eq=False)
class ImagesFrom(Source):
    """Image files. `inputs` states the size to train at; images are decoded larger, see `side`."""

    store: Store
    cache: PictureFile | None = None
    """a cache of decoded pictures of these files, from which some may be absent"""
    decode_factor: float = DECODE_FACTOR
    """the side to which pictures are reduced, as a factor of the training side"""
    margin: float = 1.0
    """the side of a picture as a factor of what a sample shows of it"""

    @property
    def side(self) -> int:
        """Returns the length in pixels to which the shorter side of larger images is reduced. A random crop of a
        picture is enlarged if it has fewer pixels than the view."""
        return round(self.height * self.decode_factor * self.margin)

    @property
    def pictures(self) -> ImagesFrom:
        return self

    def with_pictures(self, pictures: Self) -> Self:
        return pictures

    @cached_property
    def fingerprint(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Returns a SHA-256 of all paths, of all sizes, and of the content of a fixed sample of the files.

        A copy of the data has the same fingerprint, in a folder or in archives; times of files do not count.
        """
        return self.store.fingerprint

    @property
    def decodes(self) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]
        absent = len(self) if self.cache is None else self.cache.absent
        return absent > tolerated(len(self))

    @cached_property
    def pixel_bytes(self) -> int:
        """Returns the bytes that all decoded pictures take, estimated from a sample of the files."""
        sizes = self._sizes_of_sample
        return round(fmean(map(prod, sizes)) * self.channels * len(self)) if sizes else 0

    @cached_property
    def canvas_bytes(self) -> int:
        """Returns the bytes that a picture takes in a batch, estimated from a sample of the files. In a batch, all
        pictures have the height of the highest and the width of the widest one."""
        widths, heights = zip(*self._sizes_of_sample, strict=True) if self._sizes_of_sample else ((0,), (0,))
        return max(widths) * max(heights) * self.channels

    @cached_property
    def _sizes_of_sample(self) -> list[tuple[int, int]]:
        """Returns the width and height to which each picture of a sample of the files is decoded."""
        sizes = []
        for row in permutation(0, len(self))[:SURVEYED].tolist():
            with suppress(Unreadable):
                sizes.append(bounded(size(self.file(row)), self.side))
        return sizes

    def file(self, row: int) -> Callable[[], BinaryIO]:
        """Returns a function that opens the file of a row."""
        return partial(self.store.open, row)

    def decode(self, row: int) -> np.ndarray:
        """Returns the pixels of a row from its file, (C, H, W) uint8. Raises Unreadable."""
        return picture(self.file(row), self.channels, self.side, self.image.levels)

    def id(self, index: int) -> str:
        return self.store.names[index]

    def load(self, request: Request) -> Loaded:
        pictures, index, replaced = [], [], []
        for position, requested in enumerate(request.index.tolist()):
            pixels, row, unreadable = self._readable(requested)
            pictures.append(pixels)
            index.append(row)
            replaced += [Replaced(position, self.id(bad), reason) for bad, reason in unreadable]
        sizes = np.array([pixels.shape[1:] for pixels in pictures], np.int64).reshape(-1, 2)
        height, width = sizes.max(0)
        canvas = zeros(len(index), self.channels, int(height), int(width))
        for image, pixels in zip(canvas.numpy(), pictures, strict=True):
            image[:, : pixels.shape[1], : pixels.shape[2]] = pixels
        filled = bool((sizes == sizes[0]).all())
        images = Images(canvas, None if filled else torch.from_numpy(sizes))
        return Loaded(torch.tensor(index), {"image": images}, replaced)

    def whole_picture(self, row: int, side: int) -> np.ndarray:
        """Returns the pixels of a row without a cut, (C, H, W) uint8.

        Both sides have at least `side` pixels if the file has as many. Raises Unreadable.
        """
        shorter, longer = sorted(size(self.file(row)))
        if longer > 2 * shorter:  # `decode` would cut it
            side = max(side, -(-longer // 2))
        spec = replace(self.image, height=side, width=side)
        inputs = {**self.inputs, "image": spec}
        return replace(self, inputs=inputs, decode_factor=DECODE_FACTOR, cache=None).decode(row)

    def subset(self, index: Tensor) -> Self:
        return replace(
            self,
            store=self.store.subset(index.tolist()),
            labels=self.labels[index],
            group=None if self.group is None else self.group[index],
            recording=None if self.recording is None else self.recording[index],
            time=None if self.time is None else self.time[index],
            cache=None,
        )

    def _readable(self, requested: int) -> tuple[np.ndarray, int, list[tuple[int, str]]]:
        """Returns the pixels of the requested row or of the next readable one, that row, and unreadable rows with
        reasons."""
        unreadable = []
        for row in range(requested, requested + min(len(self), self.tolerated() + 1)):
            row %= len(self)
            try:
                return self._pixels(row), row, unreadable
            except Unreadable as error:
                unreadable.append((row, str(error)))
        raise BadInput(
            f"{self.store.location}: {len(unreadable)} images in a row cannot be read, from {self.id(requested)} on"
            f" ({unreadable[0][1]}); add --skip-unreadable to go on without them, or remove or"
            " mend them."
        )

    def _pixels(self, row: int) -> np.ndarray:
        pixels = None if self.cache is None else self.cache.pixels(row)
        return self.decode(row) if pixels is None else pixels


def with_decode_factor(source: Source, decode_factor: float) -> Source:
    """Returns the source with its image files decoded to this factor of the training side. A source without image files
    is returned unchanged."""
    pictures = source.pictures
    return source if pictures is None else source.with_pictures(replace(pictures, decode_factor=decode_factor))


def zeros(*shape: int) -> Tensor:
    """Returns zeros, uint8, in memory that a worker process shares with its parent.

    A batch is then handed over without a copy: 14 ms instead of 19 ms for 64 pictures of 341 x 341.
    """
    if get_worker_info() is None:
        # NumPy's zeros, since for torch's the thread that reads ahead would start threads of its own. With more threads
        # than cores, each matrix product of the main thread waits to be woken. Small products take 1.6 times as long.
        return torch.from_numpy(np.zeros(shape, np.uint8))
    shared = torch.UntypedStorage._new_shared(prod(shape))  # the system provides memory of zeros
    return torch.empty(0, dtype=torch.uint8).set_(shared, 0, shape)  # pyright: ignore[reportCallIssue]


def images_from(
    store: Store,
    name: str,
    split: str,
    prefixes: Mapping[str, tuple[str, ...]],
    wanted: Wanted,
    stated: Sequence[str | None] | None = None,
) -> ImagesFrom:
    """Returns the images of one split, or of "all".

    prefixes: the folders of each split, with their slashes. The names of the split's images begin with one of them.
    stated: the class of each file if the store knows it. Otherwise sub-folders are classes, see `class_folders`. The
    label file in `wanted` comes before both. Folders of frames are clips, see `frame_folders`.

    Images with the same bytes count once, see `left_out`, unless `wanted.copies` is True. A sample of the files decides
    all that `wanted` leaves open, see `survey`. Raises BadInput if there are no images, if none of the sample can be
    read, or if their channels do not fit.
    """
    names = store.names
    if not names:
        raise BadInput(f"{store.location} holds no images ({KINDS}); name a folder or archive with images.")
    frames = frame_folders(names, wanted.fps) if wanted.clips else None
    if frames is not None and stated is None:
        stated = classes_of_clips(names, prefixes)
    # All splits are looked at together, so that training and test images get the same classes, channels and size.
    equal = () if wanted.copies else equal_pictures(store)
    files = labeled_files(store, split, prefixes, equal, f"images ({KINDS})", wanted.labels, stated)
    surveyed = survey(_without(store, files.copies), wanted)
    image = ImageSpec(channels=surveyed.channels, height=surveyed.side, width=surveyed.side, levels=surveyed.levels)
    return ImagesFrom(
        name=name,
        split=split,
        store=store.subset(files.index),
        labels=files.labels,
        classes=files.classes,
        inputs={"image": image},
        noun="image" if frames is None else "frame",
        group=None if frames is None else frames.group[files.index],
        time=None if frames is None else frames.time[files.index],
        remarks=(*files.remarks, *([] if frames is None else [frames.remark]), *surveyed.remarks),
        no_labels=files.no_labels,
        labels_sha256="" if wanted.labels is None else wanted.labels.sha256,
        skip_unreadable=wanted.skip_unreadable,
    )


def _without(store: Store, index: Collection[int]) -> Store:
    return store.subset([row for row in range(len(store.names)) if row not in index]) if index else store
