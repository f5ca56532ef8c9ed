"""Boxes on images, drawn or central."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TRIES = 10
"""boxes that are drawn for a sample before its crop falls back to the center, as in torchvision"""
DRAWS = 2 * TRIES + 2
"""uniform numbers that the box of one sample needs"""


def boxes(
    draws: Tensor,
    height: Tensor,
    width: Tensor,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    of_square: bool = False,
) -> Tensor:
    """Returns boxes of random area and shape: the first of ten candidates that fits the image, otherwise the largest
    central box of an allowed ratio.

    draws: (N, DRAWS), uniform in [0, 1); height, width: (N,) int64, of the images; scale: the range of a box's share of
    the area, uniform; ratio: the range of width/height, log-uniform; of_square: if True, the share is of the area of
    the largest square, so that boxes have room to move on every image -> (N, 4) int64: top, left, height, width.
    The distribution is that of torchvision's RandomResizedCrop (Szegedy et al. 2015).
    """
    area, shape = draws[:, 2:].chunk(2, dim=1)  # (N, TRIES) each
    narrowest, widest = ratio
    full = torch.minimum(height, width).square() if of_square else height * width
    side = (full[:, None] * (scale[0] + (scale[1] - scale[0]) * area)).sqrt()  # side of a square of that area
    root = torch.exp((math.log(narrowest) + math.log(widest / narrowest) * shape) / 2)  # root of the ratio
    heights, widths = (side / root).round().long(), (side * root).round().long()
    fits = (heights > 0) & (heights <= height[:, None]) & (widths > 0) & (widths <= width[:, None])
    first = fits.long().argmax(dim=1, keepdim=True)
    any_fits = fits.any(dim=1)

    most = torch.minimum(height, (width / narrowest).round().long())
    broadest = torch.minimum(width, (height * widest).round().long())
    h = torch.where(any_fits, heights.gather(1, first).squeeze(1), most)
    w = torch.where(any_fits, widths.gather(1, first).squeeze(1), broadest)
    # Draws are multiples of 2^-24 below 1, so that their product with an integer stays below it in float32, too.
    top = torch.where(any_fits, (draws[:, 0] * (height - h + 1)).long(), (height - h) // 2)
    left = torch.where(any_fits, (draws[:, 1] * (width - w + 1)).long(), (width - w) // 2)
    return torch.stack([top, left, h, w], dim=1)


def central(height: Tensor, width: Tensor) -> Tensor:
    """Returns the largest squares in the middle of the images: (N,) and (N,) int64 -> (N, 4) int64."""
    side = torch.minimum(height, width)
    return torch.stack([(height - side) // 2, (width - side) // 2, side, side], dim=1)
