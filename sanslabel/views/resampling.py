"""Boxes of images, resampled to squares.

Resampling, mirroring and blurring act on each axis separately. Together they are one small matrix per axis and sample,
and a batch of crops from images of unequal sizes is two products of matrices. These take one of two forms, which differ
only by rounding:

    dense    all samples in two batched products over the full canvas
    boxed    sample by sample, over the pixels of its box only, since those outside have weight 0
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from sanslabel.views.blur import blur_matrices
from sanslabel.views.pixels import unit

Form = Literal["dense", "boxed"]
GRAIN = 32
"""the boxed form widens boxes to multiples of this many pixels, so that products have few different shapes. In
bfloat16, oneDNN compiles each new shape, which takes longer than the product itself."""
BOXED_FROM = {("cpu", torch.bfloat16): 192, ("cpu", torch.float32): 128, ("cpu", torch.float64): 128}
"""side in pixels of canvas or view from which the boxed form is faster, by device and dtype. For others it never is.
The table is fixed, since runs that measured it themselves would differ in their bits. `python -m bench.views` measures
it again."""


def form(device: torch.device, dtype: torch.dtype, side: int) -> Form:
    """Returns the form that runs for canvases or views whose longest side is `side` pixels."""
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
    """Returns the box of every image, resampled to a square, mirrored and blurred.

    images: (N, C, H, W), uint8 or floating in [0, 1]; boxes: (N, 4) int64: top, left, height, width; size: S, in
    pixels; mirrored: (N,) bool, left and right change places; sigma: (N,), deviation of a Gaussian in pixels of the
    result, 0 for no blur -> (N, C, S, S) in `dtype`.
    """
    height, width = images.shape[2:]
    exact = torch.promote_types(dtype, torch.float32)  # positions in half precision would miss by whole pixels
    top, left, tall, wide = boxes.unbind(1)
    with torch.autocast(images.device.type, enabled=False):
        vertical = resampling_matrices(top, tall, height, size, exact).to(dtype)
        horizontal = resampling_matrices(left, wide, width, size, exact, mirrored).to(dtype)
        if form(images.device, dtype, max(height, width, size)) == "boxed":
            return _boxed(images, boxes, vertical, horizontal, sigma)
        if sigma is not None:
            blur = blur_matrices(sigma, size, dtype)
            vertical, horizontal = blur @ vertical, blur @ horizontal
        return resampled(unit(images, dtype), vertical, horizontal)


def _boxed(images: Tensor, boxes: Tensor, vertical: Tensor, horizontal: Tensor, sigma: Tensor | None) -> Tensor:
    n, channels, height, width = images.shape
    size, dtype = vertical.shape[1], vertical.dtype
    views = torch.empty(n, channels, size, size, dtype=dtype, device=images.device)
    blurred = [] if sigma is None else sigma.nonzero()[:, 0].tolist()
    blur = dict(zip(blurred, blur_matrices(sigma[blurred], size, dtype), strict=True)) if sigma is not None else {}
    for i, (top, left, tall, wide) in enumerate(boxes.tolist()):
        down, along = _around(top, tall, height), _around(left, wide, width)
        onto_rows, onto_columns = vertical[i, :, down], horizontal[i, :, along]
        if i in blur:
            onto_rows, onto_columns = blur[i] @ onto_rows, blur[i] @ onto_columns
        pixels = unit(images[i, :, down, along], dtype)
        narrow = pixels.flatten(0, 1) @ onto_columns.T  # (C h, S)
        torch.matmul(onto_rows, narrow.unflatten(0, (channels, -1)), out=views[i])
    return views


def _around(start: int, length: int, pixels: int) -> slice:
    """Returns the interval, widened to a multiple of `GRAIN` pixels or to the full axis."""
    length = min(-(-length // GRAIN) * GRAIN, pixels)
    start = min(start, pixels - length)
    return slice(start, start + length)


def resampling_matrices(
    start: Tensor, length: Tensor, pixels: int, size: int, dtype: torch.dtype, mirrored: Tensor | None = None
) -> Tensor:
    """Returns the matrices that resample the interval [start, start + length) of one axis to `size` pixels.

    start, length: (N,) int64, within the axis; pixels: the length of the axis on the canvas; mirrored: (N,) bool, the
    samples whose output runs backwards -> (N, size, pixels) in `dtype`.
    The weights are those of torchvision's and Pillow's antialiased bilinear resize: linear interpolation to enlarge,
    and a triangle as wide as two output pixels to reduce. Rows sum to 1, and pixels outside the interval weigh 0.
    """
    scale = length.to(dtype) / size  # input pixels per output pixel
    center = scale[:, None] * (torch.arange(size, device=start.device, dtype=dtype) + 0.5)  # (N, S), from the start
    if mirrored is not None:
        center = torch.where(mirrored[:, None], center.flip(1), center)
    pixel = torch.arange(pixels, device=start.device) - start[:, None]  # (N, L)
    inside = (pixel >= 0) & (pixel < length[:, None])
    position = torch.where(inside, pixel.to(dtype) + 0.5, math.inf)  # pixels outside are infinitely far, and weigh 0
    # Few passes over (N, S, L): the height of the triangle does not matter, since rows are normalized.
    distance = (position[:, None, :] - center[:, :, None]).abs_()
    weight = torch.sub(scale.clamp(min=1)[:, None, None], distance, out=distance).clamp_(min=0)
    return weight.div_(weight.sum(dim=2, keepdim=True))


def resampled(images: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """Returns vertical @ image @ horizontal.T for every channel.

    images: (N, C, H, W); vertical: (N, S, H); horizontal: (N, T, W), of the same dtype -> (N, C, S, T).
    """
    n, c, h, w = images.shape
    narrow = torch.bmm(images.reshape(n, c * h, w), horizontal.mT)  # (N, C H, T)
    return vertical[:, None] @ narrow.view(n, c, h, -1)
