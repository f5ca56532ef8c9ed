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


def assembled(patches: Tensor, rows: int, columns: int) -> Tensor:
    """The images of which these are the patches, cut without overlap: the inverse of `patches(images, size, size)`.

    patches: (N, rows · columns, C, size, size) -> (N, C, rows · size, columns · size).
    """
    n, _, channels, size, _ = patches.shape
    grid = patches.unflatten(1, (rows, columns)).permute(0, 3, 1, 4, 2, 5)  # (N, C, rows, size, columns, size)
    return grid.reshape(n, channels, rows * size, columns * size)


def painted(images: Tensor, places: Tensor, pixels: Tensor, size: int) -> Tensor:
    """The images with these pixels in the patches at these places.

    images: (N, C, H, W), cut into patches of `size` without overlap; places: (N, M) int64; pixels: (N, M, C · size²).
    """
    parts = patches(images, size, size)  # (N, P, C, size, size)
    new = parts.flatten(2).scatter(1, places[:, :, None].expand_as(pixels), pixels.to(parts.dtype))
    return assembled(new.view(parts.shape), images.shape[2] // size, images.shape[3] // size)


def standardized(patches: Tensor, epsilon: float = 1e-2) -> Tensor:
    """Each patch with its own mean and deviation brought to 1/2 and 1/4, then clamped to [0, 1]: what is left of an
    image's brightness would tell which patches are neighbors (Doersch et al. 2015, section 3.1).

    patches: (..., C, s, s) in [0, 1], the statistics over all of a patch's channels; epsilon keeps flat patches flat.
    """
    dims = (-3, -2, -1)
    mean, deviation = patches.mean(dim=dims, keepdim=True), patches.std(dim=dims, keepdim=True, correction=0)
    return ((patches - mean) / (4 * (deviation + epsilon)) + 0.5).clamp_(0, 1)
