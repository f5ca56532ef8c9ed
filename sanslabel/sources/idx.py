"""IDX, the format of MNIST and its successors (LeCun, Cortes, Burges 1998): a folder with up to four files, gzipped or
not, with the names that MNIST's have."""

from __future__ import annotations

import gzip
import math
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np

from sanslabel.errors import BadInput, bad_input_as
from sanslabel.sources.arrays import DEFLATED, Splits, Stored, checked_labels, content

_PREFIX = {"train": "train", "test": "t10k"}


def idx(folder: Path) -> Splits:
    """The splits whose image files are in the folder; none if it holds no IDX files."""
    stored = {}
    for split, prefix in _PREFIX.items():
        images, labels = _file(folder, f"{prefix}-images", 3), _file(folder, f"{prefix}-labels", 1)
        if images and labels:
            stored[split] = Stored(partial(_images, images), checked_labels(read(labels, 1), labels), labels)
        elif images:
            stored[split] = Stored(partial(_images, images), None, images)
    return Splits(stored)


def _file(folder: Path, stem: str, rank: int) -> Path | None:
    names = [f"{stem}{mark}idx{rank}-ubyte{ending}" for mark in "-." for ending in ("", ".gz")]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _images(path: Path) -> np.ndarray:
    return read(path, 3)[:, None]  # (N, 1, H, W)


def read(path: Path, rank: int) -> np.ndarray:
    """The array of unsigned bytes in one IDX file, which must have `rank` axes."""
    magic, begin, size = bytes([0, 0, 8, rank]), 4 + 4 * rank, path.stat().st_size
    with bad_input_as(path, "fetch it again"), path.open("rb") as stored:
        packed = stored.read(2) == b"\x1f\x8b"  # by content: browsers unpack .gz files without renaming them
        stored.seek(0)
        with gzip.open(stored) if packed else nullcontext(stored) as file:
            head = file.read(begin)
            if head[:4] != magic:
                raise BadInput(
                    f"{path} begins with {head[:4].hex()}, not {magic.hex()}: it is not an IDX file of that kind."
                )
            shape = tuple(int(length) for length in np.frombuffer(head[4:].ljust(4 * rank, b"\0"), ">u4"))
            expected, held = math.prod(shape), size * DEFLATED if packed else max(0, size - begin)
            pixels = content(file, expected, held, path)
            if len(head) < begin or file.read(1):
                there = "others" if packed else f"{held:,}"
                raise BadInput(
                    f"{path} announces {expected:,} bytes and has {there}: it is cut off or damaged; fetch it again."
                )
    return pixels.reshape(shape)
