"""Images resized without a draw, as evaluation reads them."""

from __future__ import annotations

import torch
from torch import Tensor

from sanslabel.batch import Images
from sanslabel.views.crops import central
from sanslabel.views.pixels import unit, view_dtype
from sanslabel.views.resampling import cropped


@torch.no_grad()
def resized(images: Tensor, size: int, sizes: Tensor | None = None) -> Tensor:
    """Returns the largest central square of every image, resized to `size` with antialiasing.

    images: (N, C, H, W), uint8 or floating in [0, 1]; sizes: (N, 2), true height and width on the canvas
    -> (N, C, size, size) float32 in [0, 1]. Images that already have that size keep their pixels. Raises BadInput for
    other dtypes.
    """
    n, _, height, width = images.shape
    view_dtype(images, torch.float32)
    if sizes is None and height == width == size:
        return unit(images, torch.float32)
    canvas = [torch.full((n,), side, device=images.device) for side in (height, width)]
    squares = central(*(canvas if sizes is None else sizes.unbind(1)))
    return cropped(images, squares, size, torch.float32).clamp_(0, 1)


def resize_images(images: Images, size: int | None) -> Tensor:
    """Returns images as `resized` makes them, (N, C, S, S), by default with the shorter side of their canvas."""
    return resized(images.pixels, size or min(images.pixels.shape[2:]), images.sizes)
