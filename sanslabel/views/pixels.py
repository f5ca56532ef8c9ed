"""Stored pixels as numbers to compute with."""

from __future__ import annotations

import torch
from torch import Tensor

from sanslabel.errors import BadInput


def precision(images: Tensor) -> torch.dtype:
    """What views of these images are computed in: their own dtype if it is floating; for uint8, what autocast computes
    in where it is on, else float32. BadInput for other dtypes."""
    if images.is_floating_point():
        return images.dtype
    if images.dtype != torch.uint8:
        raise BadInput(f"Images are {images.dtype}; give uint8, or floating numbers in [0, 1].")
    device = images.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32


def unit(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Images in `dtype` in [0, 1]; uint8 is divided by 255. Half precision holds 0 to 255 exactly, so that the division
    rounds once."""
    return images.to(dtype).div_(255) if images.dtype == torch.uint8 else images.to(dtype)
