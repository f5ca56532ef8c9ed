"""Stored pixels as floating numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from sanslabel.errors import BadInput


def view_dtype(pixels: Tensor, dtype: torch.dtype) -> torch.dtype:
    """Returns the dtype in which views of these pixels are computed: their own if it is floating, the given one for
    uint8. Raises BadInput for other dtypes."""
    if pixels.is_floating_point():
        return pixels.dtype
    if pixels.dtype != torch.uint8:
        raise BadInput(f"Images are {pixels.dtype}; give uint8, or floating numbers in [0, 1].")
    return dtype


def unit(pixels: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns the pixels in `dtype` in [0, 1]; uint8 is divided by 255. Half precision represents 0 to 255 exactly, so
    that only the division rounds."""
    return pixels.to(dtype).div_(255) if pixels.dtype == torch.uint8 else pixels.to(dtype)
