"""NumPy's files: .npy with images alone, .npz with `images` and, where there are any, `labels`, `classes` (names) and
a test split in `test_images` and `test_labels`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from sanslabel.errors import BadInput
from sanslabel.sources.arrays import Part, Stored, checked_labels

_PREFIX = {"train": "", "test": "test_"}


def npy(path: Path) -> Stored:
    """One array of images, as one split."""
    return Stored({"train": Part(partial(_images, path, None), None, path)})


def npz(path: Path) -> Stored:
    names = _names(path)
    if "images" not in names:
        raise BadInput(
            f"{path} has no array called images (it has: {', '.join(names) or 'nothing'}); save it with one."
        )
    classes = tuple(str(name) for name in _array(path, "classes").ravel()) if "classes" in names else ()
    parts = {}
    for split, prefix in _PREFIX.items():
        if f"{prefix}images" in names:
            labels = None
            if f"{prefix}labels" in names:
                labels = checked_labels(_array(path, f"{prefix}labels"), path, len(classes))
            parts[split] = Part(partial(_images, path, f"{prefix}images"), labels, path)
    return Stored(parts, classes)


def _names(path: Path) -> list[str]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return list(archive.files)
    except Exception as error:  # a damaged file leads NumPy into errors of a dozen kinds
        raise BadInput(f"{path} cannot be read as .npz ({error}); save it again with numpy.savez.") from error


def _array(path: Path, name: str | None) -> np.ndarray:
    try:
        with path.open("rb") as file:  # opened here: NumPy leaves what it opened open when it turns out damaged
            if name is None:
                return np.lib.format.read_array(file, allow_pickle=False)
            with np.load(file, allow_pickle=False) as archive:
                return archive[name]
    except Exception as error:
        what = f"array {name} in {path}" if name else f"{path}"
        raise BadInput(f"{what} cannot be read ({error}); save it again with numpy.save or savez.") from error


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
