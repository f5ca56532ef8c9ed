"""IDX, the format of MNIST and its successors (LeCun, Cortes, Burges 1998): a folder with up to four files, gzipped or
not, with the names that MNIST's have."""

from __future__ import annotations

import gzip
import math
import zlib
from functools import partial
from pathlib import Path

import numpy as np

from sanslabel.errors import BadInput
from sanslabel.sources.arrays import Part, Stored, checked_labels

_PREFIX = {"train": "train", "test": "t10k"}


def idx(folder: Path) -> Stored:
    """The splits whose image files are in the folder; none if it holds no IDX files."""
    parts = {}
    for split, prefix in _PREFIX.items():
        images, labels = _file(folder, f"{prefix}-images", 3), _file(folder, f"{prefix}-labels", 1)
        if images and labels:
            parts[split] = Part(partial(_images, images), checked_labels(read(labels, 1), labels), labels)
        elif images:
            parts[split] = Part(partial(_images, images), None, images)
    return Stored(parts)


def _file(folder: Path, stem: str, rank: int) -> Path | None:
    names = [f"{stem}{mark}idx{rank}-ubyte{ending}" for mark in "-." for ending in ("", ".gz")]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _images(path: Path) -> np.ndarray:
    return read(path, 3)[:, None]  # (N, 1, H, W)


def read(path: Path, rank: int) -> np.ndarray:
    """The array of unsigned bytes in one IDX file, which must have `rank` axes."""
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":  # by content: browsers unpack .gz files without renaming them
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path} cannot be read ({error}); fetch it again.") from error
    magic, begin = bytes([0, 0, 8, rank]), 4 + 4 * rank
    if content[:4] != magic:
        raise BadInput(
            f"{path} begins with {content[:4].hex()}, not {magic.hex()}: it is not an IDX file of that kind."
        )
    shape = tuple(int(length) for length in np.frombuffer(content[4:begin].ljust(4 * rank, b"\0"), ">u4"))
    expected = math.prod(shape)
    if len(content) - begin != expected:
        raise BadInput(
            f"{path} announces {expected:,} bytes and has {max(0, len(content) - begin):,}: it is cut off or damaged;"
            " fetch it again."
        )
    return np.frombuffer(content, np.uint8, offset=begin).reshape(shape).copy()  # a copy, since bytes are read-only
