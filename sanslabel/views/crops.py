"""Boxes on images, and the matrices that resample a box to a square.

Resampling acts on rows and on columns separately, so that it is one small matrix per axis and sample, and a batch of
crops from images of unequal sizes is two batched matrix products.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

TRIES = 10
"""boxes that are drawn for a sample before its crop falls back to the center, as torchvision does it"""
DRAWS = 2 * TRIES + 2
"""uniform numbers that one sample's box takes"""


def boxes(
    draws: Tensor,
    height: Tensor,
    width: Tensor,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    of_square: bool = False,
) -> Tensor:
    """Boxes of random area and shape: the first of ten candidates that fits the image, else the largest central box
    whose ratio is admitted.

    draws: (N, DRAWS), uniform in [0, 1); height, width: (N,) int64, of the images; scale: the range of a box's part of
    the area, uniform; ratio: the range of width/height, log-uniform; of_square: whether that area is the largest
    square's, which leaves a box of that ratio room to move on every image -> (N, 4) int64: top, left, height, width.
    The distribution of torchvision's RandomResizedCrop (Szegedy et al. 2015).
    """
    area, shape = draws[:, 2:].chunk(2, dim=1)  # (N, TRIES) each
    narrowest, widest = ratio
    full = torch.minimum(height, width).square() if of_square else height * width
    side = (full[:, None] * (scale[0] + (scale[1] - scale[0]) * area)).sqrt()  # of a square of that area
    root = torch.exp((math.log(narrowest) + math.log(widest / narrowest) * shape) / 2)  # of the ratio
    heights, widths = (side / root).round().long(), (side * root).round().long()
    fits = (heights > 0) & (heights <= height[:, None]) & (widths > 0) & (widths <= width[:, None])
    first = fits.long().argmax(dim=1, keepdim=True)
    found = fits.any(dim=1)

    most = torch.minimum(height, (width / narrowest).round().long())
    broadest = torch.minimum(width, (height * widest).round().long())
    h = torch.where(found, heights.gather(1, first).squeeze(1), most)
    w = torch.where(found, widths.gather(1, first).squeeze(1), broadest)
    # A product with a number below 1 that is a multiple of 2^-24 stays below the integer in float32, too.
    top = torch.where(found, (draws[:, 0] * (height - h + 1)).long(), (height - h) // 2)
    left = torch.where(found, (draws[:, 1] * (width - w + 1)).long(), (width - w) // 2)
    return torch.stack([top, left, h, w], dim=1)


def central(height: Tensor, width: Tensor) -> Tensor:
    """(N,) and (N,) int64 -> (N, 4) int64: the largest squares in the middle of the images."""
    side = torch.minimum(height, width)
    return torch.stack([(height - side) // 2, (width - side) // 2, side, side], dim=1)


def resampling(
    start: Tensor, length: Tensor, pixels: int, size: int, dtype: torch.dtype, mirrored: Tensor | None = None
) -> Tensor:
    """The matrices that resample the interval [start, start + length) of one axis to `size` pixels: by linear
    interpolation where that enlarges, with a triangle as wide as two output pixels where it reduces (antialiasing).

    start, length: (N,) int64, within the axis; pixels: the length of the axis on the canvas; mirrored: (N,) bool, whose
    output runs backwards -> (N, size, pixels) in `dtype`. Rows sum to 1, and pixels outside the interval have weight 0.
    The weights of torchvision's and Pillow's antialiased bilinear resize.
    """
    scale = length.to(dtype) / size  # input pixels to an output pixel
    center = scale[:, None] * (torch.arange(size, device=start.device, dtype=dtype) + 0.5)  # (N, S), from the start
    if mirrored is not None:
        center = torch.where(mirrored[:, None], center.flip(1), center)
    pixel = torch.arange(pixels, device=start.device) - start[:, None]  # (N, L)
    inside = (pixel >= 0) & (pixel < length[:, None])
    position = torch.where(inside, pixel.to(dtype) + 0.5, math.inf)  # infinitely far is what must not be read
    # Few passes over (N, S, L): a triangle of height `support` does, since its rows are normalized.
    distance = (position[:, None, :] - center[:, :, None]).abs_()
    weight = torch.sub(scale.clamp(min=1)[:, None, None], distance, out=distance).clamp_(min=0)
    return weight.div_(weight.sum(dim=2, keepdim=True))


def resampled(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """rows @ image @ columns.T for every channel.

    images: (N, C, H, W); rows: (N, S, H); columns: (N, T, W), of the same dtype -> (N, C, S, T).
    """
    n, c, h, w = images.shape
    narrow = torch.bmm(images.reshape(n, c * h, w), columns.mT)  # (N, C H, T)
    return rows[:, None] @ narrow.view(n, c, h, -1)
