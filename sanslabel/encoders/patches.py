"""Patches of an image that are images themselves."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Patches(NamedTuple):
    """Size and stride of the patches in which an encoder reads images, if it was trained on patches."""

    size: int
    """side in pixels"""
    stride: int
    """pixels from one patch to the next"""


def patches(images: Tensor, size: int, stride: int) -> Tensor:
    """Returns square patches on a regular grid, row by row from the top left. Pixels left over at the right and at the
    bottom are not covered.

    images: (N, C, H, W) -> (N, P, C, size, size), P = ((H - size) // stride + 1) * ((W - size) // stride + 1).
    """
    cut = images.unfold(2, size, stride).unfold(3, size, stride)  # (N, C, h, w, size, size)
    return cut.permute(0, 2, 3, 1, 4, 5).flatten(1, 2)


def assembled(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """Returns the images that were cut into these patches without overlap: the inverse of `patches(images, size,
    size)`.

    patches: (N, h · w, C, size, size); grid: (h, w), the patches down and along -> (N, C, h · size, w · size).
    """
    n, _, channels, size, _ = patches.shape
    height, width = grid
    placed = patches.unflatten(1, grid).permute(0, 3, 1, 4, 2, 5)  # (N, C, h, size, w, size)
    return placed.reshape(n, channels, height * size, width * size)


def painted(images: Tensor, places: Tensor, pixels: Tensor, size: int) -> Tensor:
    """Returns the images with these pixels in the patches at these places.

    images: (N, C, H, W), cut into patches of `size` without overlap; places: (N, M) int64; pixels: (N, M, C · size²).
    """
    old = patches(images, size, size)  # (N, P, C, size, size)
    new = old.flatten(2).scatter(1, places[:, :, None].expand_as(pixels), pixels.to(old.dtype))
    return assembled(new.view(old.shape), (images.shape[2] // size, images.shape[3] // size))


def standardized(patches: Tensor, epsilon: float = 1e-2) -> Tensor:
    """Returns each patch with its mean brought to 1/2 and its deviation to 1/4, clamped to [0, 1]. Without this, an
    image's brightness would show which patches are neighbors (Doersch et al. 2015, section 3.1).

    patches: (..., C, s, s) in [0, 1], the statistics over all of a patch's channels; epsilon keeps flat patches flat.
    """
    dims = (-3, -2, -1)
    mean, deviation = patches.mean(dim=dims, keepdim=True), patches.std(dim=dims, keepdim=True, correction=0)
    return ((patches - mean) / (4 * (deviation + epsilon)) + 0.5).clamp_(0, 1)
