"""Patches of an image that are images of their own."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Patches(NamedTuple):
    """How an encoder that was trained on patches reads an image."""

    size: int
    """side in pixels"""
    stride: int
    """pixels from one patch to the next"""


def patches(images: Tensor, size: int, stride: int) -> Tensor:
    """Square patches on a regular grid, row by row from the top left; what the last stride leaves over is not covered.

    images: (N, C, H, W) -> (N, P, C, size, size), P = ((H - size) // stride + 1) * ((W - size) // stride + 1).
    """
    cut = images.unfold(2, size, stride).unfold(3, size, stride)  # (N, C, rows, columns, size, size)
    return cut.permute(0, 2, 3, 1, 4, 5).flatten(1, 2)


def standardized(patches: Tensor, epsilon: float = 1e-2) -> Tensor:
    """Each patch with its own mean and deviation brought to 1/2 and 1/4, then clamped to [0, 1]: what is left of an
    image's brightness would tell which patches are neighbors (Doersch et al. 2015, section 3.1).

    patches: (..., C, s, s) in [0, 1], the statistics over all of a patch's channels; epsilon keeps flat patches flat.
    """
    dims = (-3, -2, -1)
    mean, deviation = patches.mean(dim=dims, keepdim=True), patches.std(dim=dims, keepdim=True, correction=0)
    return ((patches - mean) / (4 * (deviation + epsilon)) + 0.5).clamp_(0, 1)
