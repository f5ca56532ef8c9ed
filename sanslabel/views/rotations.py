"""Rotations by quarters, exact: no pixel is interpolated."""

from __future__ import annotations

import torch
from torch import Tensor

from sanslabel.stopwatch import timed


@timed("views")
def rotations(images: Tensor) -> Tensor:
    """Returns each image as it is and rotated counterclockwise by one, two and three quarters.

    images: (N, C, S, S), square -> (N, 4, C, S, S).
    """
    return torch.stack([images.rot90(quarters, dims=(-2, -1)) for quarters in range(4)], dim=1)


def rotated(images: Tensor, quarters: Tensor) -> Tensor:
    """Returns each image rotated counterclockwise by its number of quarters, or by each of its R numbers.

    images: (N, C, S, S), square; quarters: (N,) or (N, R) int64 in {0, 1, 2, 3} -> (N, C, S, S) or (N, R, C, S, S).
    """
    sample = torch.arange(len(images), device=images.device).view(-1, *[1] * (quarters.ndim - 1))
    return rotations(images)[sample, quarters]
