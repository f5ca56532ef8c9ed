"""Boxes of images, resampled to squares.

Resampling, mirroring and blurring act on rows and on columns separately, so that together they are one small matrix per
axis and sample, and a batch of crops from images of unequal sizes is two products of matrices. Those take one of two
forms, alike but for rounding:

    dense    all samples in two batched products over the whole canvas
    boxed    sample by sample, of the pixels of its box alone: what lies outside has weight 0
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from sanslabel.views.blur import blurring
from sanslabel.views.pixels import unit

Form = Literal["dense", "boxed"]
GRAIN = 32
"""pixels that boxes are widened to multiples of, where they are read one by one: few different shapes of products,
since oneDNN compiles each new one in bfloat16, which takes longer than the product itself"""
BOXED_FROM = {("cpu", torch.bfloat16): 192, ("cpu", torch.float32): 128, ("cpu", torch.float64): 128}
"""the side of canvas or view from which boxed is faster, by device and dtype; where none is given, it never is. A fixed
table, since a form that was timed by each run would give each run bits of its own; `python -m bench.views` measures it
again."""


def form(device: torch.device, dtype: torch.dtype, side: int) -> Form:
    """That runs for canvases or views whose longest side is `side` pixels."""
    return "boxed" if side >= BOXED_FROM.get((device.type, dtype), math.inf) else "dense"


@torch.no_grad()
def cropped(
    images: Tensor,
    boxes: Tensor,
    size: int,
    dtype: torch.dtype,
    mirrored: Tensor | None = None,
    sigma: Tensor | None = None,
) -> Tensor:
    """The box of every image, resampled to a square, mirrored and blurred.

    images: (N, C, H, W), uint8 or floating in [0, 1]; boxes: (N, 4) int64: top, left, height, width; size: S, in
    pixels; mirrored: (N,) bool, left and right change places; sigma: (N,), of a Gaussian in pixels of the result, 0
    where there is none -> (N, C, S, S) in `dtype`.
    """
    height, width = images.shape[2:]
    exact = torch.promote_types(dtype, torch.float32)  # positions in half precision would miss by whole pixels
    top, left, tall, wide = boxes.unbind(1)
    with torch.autocast(images.device.type, enabled=False):
        rows = resampling(top, tall, height, size, exact).to(dtype)
        columns = resampling(left, wide, width, size, exact, mirrored).to(dtype)
        if form(images.device, dtype, max(height, width, size)) == "boxed":
            return _boxed(images, boxes, rows, columns, sigma)
        if sigma is not None:
            blurred = blurring(sigma, size, dtype)
            rows, columns = blurred @ rows, blurred @ columns
        return resampled(unit(images, dtype), rows, columns)


def _boxed(images: Tensor, boxes: Tensor, rows: Tensor, columns: Tensor, sigma: Tensor | None) -> Tensor:
    n, channels, height, width = images.shape
    size, dtype = rows.shape[1], rows.dtype
    views = torch.empty(n, channels, size, size, dtype=dtype, device=images.device)
    softened = [] if sigma is None else sigma.nonzero()[:, 0].tolist()
    blurred = dict(zip(softened, blurring(sigma[softened], size, dtype), strict=True)) if sigma is not None else {}
    for i, (top, left, tall, wide) in enumerate(boxes.tolist()):
        down, along = _around(top, tall, height), _around(left, wide, width)
        row, column = rows[i, :, down], columns[i, :, along]
        if i in blurred:
            row, column = blurred[i] @ row, blurred[i] @ column
        pixels = unit(images[i, :, down, along], dtype)
        narrow = pixels.flatten(0, 1) @ column.T  # (C h, S)
        torch.matmul(row, narrow.unflatten(0, (channels, -1)), out=views[i])
    return views


def _around(start: int, length: int, pixels: int) -> slice:
    """The interval, widened to a multiple of `GRAIN` pixels, or to all of the axis."""
    length = min(-(-length // GRAIN) * GRAIN, pixels)
    start = min(start, pixels - length)
    return slice(start, start + length)


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
