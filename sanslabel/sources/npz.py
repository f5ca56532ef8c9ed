"""NumPy's files: .npy with images alone, .npz with `images` and, where there are any, `labels`, `classes` (names) and
a test split in `test_images` and `test_labels`."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import BufferedReader, FileIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np

from sanslabel.errors import BadInput, bad_input_as
from sanslabel.sources.arrays import DEFLATED, Bytes, Splits, Stored, checked_labels, content

_PREFIX = {"train": "", "test": "test_"}
_PART = 1 << 20
"""bytes read at once, and so of the list of an archive's members: twenty thousand of them"""
_NAMES = 1 << 22
"""bytes of the names of classes, at most"""


def npy(path: Path) -> Splits:
    """One array of images, as one split."""
    return Splits({"train": Stored(partial(_images, path, None), None, path)})


def npz(path: Path) -> Splits:
    names = _names(path)
    if "images" not in names:
        raise BadInput(
            f"{path} has no array called images (it has: {', '.join(names) or 'nothing'}); save it with one."
        )
    classes = _classes(path) if "classes" in names else ()
    stored = {}
    for split, prefix in _PREFIX.items():
        if f"{prefix}images" in names:
            labels = None
            if f"{prefix}labels" in names:
                labels = checked_labels(_array(path, f"{prefix}labels"), path, len(classes))
            stored[split] = Stored(partial(_images, path, f"{prefix}images"), labels, path)
    return Splits(stored, classes)


def _classes(path: Path) -> tuple[str, ...]:
    return tuple(str(name) for name in _array(path, "classes", _NAMES).ravel())


def _names(path: Path) -> list[str]:
    with bad_input_as(path, "save it again with numpy.savez"), _archive(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


@contextmanager
def _archive(path: Path) -> Iterator[ZipFile]:
    with _Bounded(FileIO(path)) as file, ZipFile(file) as archive:
        yield archive


class _Bounded(BufferedReader):
    """A file of which no large part is read at once: a list of a million members would be, before any is asked for."""

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(_PART + 1 if size is None or size < 0 else min(size, _PART + 1))
        if len(found) > _PART:
            raise ValueError("its list of members is longer than that of a few arrays")
        return found


def _array(path: Path, name: str | None, most: int = sys.maxsize) -> np.ndarray:
    """Of at most so many bytes."""
    size = path.stat().st_size
    if name is None:
        with bad_input_as(path, "save it again with numpy.save"), path.open("rb") as file:
            return _read(file, size, path)
    with bad_input_as(f"array {name} in {path}", "save it again with numpy.savez"), _archive(path) as archive:
        member = archive.getinfo(f"{name}.npy")
        if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):  # what NumPy writes; others unpack without bound
            raise BadInput(f"array {name} in {path} is packed in another way than NumPy's; save it with numpy.savez.")
        with archive.open(member) as file:
            return _read(file, min(member.file_size, size * DEFLATED, most), path)


def _read(file: Bytes, held: int, path: Path) -> np.ndarray:
    """The array that a stream of at most so many bytes holds, its header not believed beyond them."""
    version = np.lib.format.read_magic(file)
    header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if header is None:
        raise BadInput(f"{path} has arrays of named fields; save plain ones.")
    shape, transposed, dtype = header(file)
    if dtype.kind not in "biufcUS" or dtype.itemsize == 0:  # objects are pickles
        raise BadInput(f"{path} holds {dtype}, which is no kind of number or text; save plain arrays.")
    flat = content(file, math.prod(shape) * dtype.itemsize, held, path).view(dtype)
    return flat.reshape(shape[::-1]).transpose() if transposed else flat.reshape(shape)


def _images(path: Path, name: str | None) -> np.ndarray:
    """(N, C, H, W), uint8 or float32, from (N, H, W), (N, H, W, C) or (N, C, H, W).

    Channels are the shorter of the second and the last axis, the last if they are equal: images with fewer rows or
    columns than channels are not to be told apart.
    """
    array, where = _array(path, name), f"{path}" if name is None else f"{path}, array {name}"
    if array.ndim not in (3, 4):
        raise BadInput(
            f"{where}: images must have shape (N, H, W), (N, H, W, C) or (N, C, H, W), not {array.shape}; reshape them."
        )
    if array.ndim == 3:
        array = array[:, None]
    elif array.shape[3] <= array.shape[1]:
        array = array.transpose(0, 3, 1, 2)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind != "f":
        raise BadInput(f"{where}: images must be uint8, or float in [0, 1], not {array.dtype}; convert them.")
    if array.size and not (array.min() >= 0 and array.max() <= 1):  # also false for what is not a number
        raise BadInput(
            f"{where}: float images must lie in [0, 1], not from {array.min():g} to {array.max():g}; rescale them."
        )
    return np.ascontiguousarray(array, dtype=np.float32)
