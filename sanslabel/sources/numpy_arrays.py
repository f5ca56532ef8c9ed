"""Reads arrays in NumPy's format without trusting the files, and converts them to images and sounds."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from sanslabel.errors import BadInput
from sanslabel.sources.arrays import Bytes, content


def read_array(file: Bytes, limit: int, path: Path) -> np.ndarray:
    """Returns the array in a stream. Raises BadInput if its header announces more than `limit` bytes.

    Raises BadInput for anything but plain numbers and text: other objects are pickles.
    """
    version = np.lib.format.read_magic(file)
    header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if header is None:
        raise BadInput(f"{path} has arrays of named fields; save plain ones.")
    shape, transposed, dtype = header(file)
    if dtype.kind not in "biufcUS" or dtype.itemsize == 0:  # objects are pickles
        raise BadInput(f"{path} holds {dtype}, which is neither a number nor text; save plain arrays.")
    flat = content(file, math.prod(shape) * dtype.itemsize, limit, path).view(dtype)
    return flat.reshape(shape[::-1]).transpose() if transposed else flat.reshape(shape)


def as_images(array: np.ndarray, where: str) -> np.ndarray:
    """Returns (N, C, H, W), uint8 or float32, from (N, H, W), (N, H, W, C) or (N, C, H, W).

    The shorter of the second and the last axis is taken as the channels, or the last if they are equal. Images with
    fewer pixels a side than channels are therefore misread. Raises BadInput, which begins with `where`, for other
    shapes, types and values.
    """
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
        raise BadInput(
            f"{where}: images must be uint8, or float in [0, 1], not {array.dtype}; divide them by their largest value,"
            " such as 4095.0 for 12 bits."
        )
    if array.size and not (array.min() >= 0 and array.max() <= 1):  # also False for NaN
        raise BadInput(
            f"{where}: float images must lie in [0, 1], not from {array.min():g} to {array.max():g}; rescale them."
        )
    return np.ascontiguousarray(array, dtype=np.float32)


def as_waves(array: np.ndarray, where: str) -> np.ndarray:
    """Returns (N, C, T), int16 or float32 in [-1, 1], from (N, T) or (N, C, T). Raises BadInput, which begins with
    `where`, for other shapes, types and values."""
    if array.ndim not in (2, 3):
        raise BadInput(f"{where}: waves must have shape (N, T) or (N, C, T), not {array.shape}; reshape them.")
    array = array[:, None] if array.ndim == 2 else array
    if array.dtype == np.int16:
        return np.ascontiguousarray(array)
    if array.dtype.kind != "f":
        raise BadInput(f"{where}: waves must be int16, or float in [-1, 1], not {array.dtype}; convert them.")
    if array.size and not np.abs(array).max() <= 1:  # also False for NaN
        raise BadInput(f"{where}: float waves must lie in [-1, 1]; divide them by their largest value.")
    return np.ascontiguousarray(array, dtype=np.float32)
