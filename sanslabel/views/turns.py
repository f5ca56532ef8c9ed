"""Turns by quarters, exact: no pixel is interpolated."""

from __future__ import annotations

import torch
from torch import Tensor


def turned(images: Tensor, quarters: Tensor) -> Tensor:
    """Each image turned counter-clockwise by its number of quarter turns.

    images: (N, C, S, S), square; quarters: (N,) int64 in {0, 1, 2, 3} -> (N, C, S, S).
    """
    every = torch.stack([images.rot90(k, dims=(2, 3)) for k in range(4)])  # (4, N, C, S, S)
    return every[quarters, torch.arange(len(images), device=images.device)]
