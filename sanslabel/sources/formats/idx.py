"""IDX, the format of MNIST and its successors (LeCun, Cortes, Burges 1998).

A folder holds up to four files, gzipped or not, with the names of MNIST's files.
"""

from __future__ import annotations

import gzip
import math
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np

from sanslabel.errors import BadInput, bad_input_as
from sanslabel.sources.arrays import DEFLATED, Arrays, Splits, Stored, arrays_of_images, checked_labels, content
from sanslabel.sources.source import Wanted

_PREFIX = {"train": "train", "test": "t10k"}


def splits(data: str | Path) -> tuple[str, ...] | None:
    """Returns the splits of a folder of IDX files; None for anything else."""
    folder = Path(data)
    return (tuple(stored_in(folder).stored) or None) if folder.is_dir() else None


def open_source(data: str | Path, split: str, wanted: Wanted) -> Arrays | None:
    """Returns the images of a split, or of "all"; None if the folder holds no IDX files."""
    folder = Path(data)
    stored = stored_in(folder)
    return arrays_of_images(folder.resolve().name, stored, split, wanted) if stored.stored else None


def stored_in(folder: Path) -> Splits:
    """Returns the splits whose image files are in the folder; none if it holds no IDX files."""
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
    """Returns the array of unsigned bytes in an IDX file, which must have `rank` axes. Raises BadInput."""
    magic, begin, size = bytes([0, 0, 8, rank]), 4 + 4 * rank, path.stat().st_size
    with bad_input_as(path, "fetch it again"), path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"  # by content: browsers unpack .gz files without renaming them
        raw.seek(0)
        with gzip.open(raw) if packed else nullcontext(raw) as file:
            head = file.read(begin)
            if head[:4] != magic:
                raise BadInput(
                    f"{path} begins with {head[:4].hex()}, not {magic.hex()}: it is not an IDX file of that kind."
                )
            shape = tuple(int(length) for length in np.frombuffer(head[4:].ljust(4 * rank, b"\0"), ">u4"))
            expected, limit = math.prod(shape), size * DEFLATED if packed else max(0, size - begin)
            pixels = content(file, expected, limit, path)
            if len(head) < begin or file.read(1):
                present = "another number" if packed else f"{limit:,}"
                raise BadInput(
                    f"{path} announces {expected:,} bytes and has {present}: it is cut off or damaged; fetch it again."
                )
    return pixels.reshape(shape)
