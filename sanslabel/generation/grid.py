"""Pictures of many images."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sanslabel.checkpoint import replacing
from sanslabel.errors import BadInput

GAP = 2
"""pixels between images"""


def grid(images: Tensor, columns: int) -> Tensor:
    """Images (n, C, H, W) in [0, 1], row by row on white -> (C, rows, columns) of pixels."""
    n, channels, height, width = images.shape
    rows = -(-n // columns)
    tall, wide = height + GAP, width + GAP
    paper = torch.ones(channels, rows * tall + GAP, columns * wide + GAP)
    for i, image in enumerate(images):
        top, left = GAP + i // columns * tall, GAP + i % columns * wide
        paper[:, top : top + height, left : left + width] = image
    return paper


def png(out: str | Path) -> Path:
    """Where a picture is to be written; BadInput for another kind of file."""
    path = Path(out)
    if path.suffix.lower() != ".png":
        raise BadInput(f"--out {path}: pictures are written as .png.")
    return path


def write_png(path: Path, picture: Tensor) -> None:
    """(C, H, W) in [0, 1] of one or three channels; small ones are enlarged by whole factors. DiskError if the disk
    refuses."""
    from PIL import Image

    path = png(path)
    if picture.shape[0] not in (1, 3):
        raise BadInput(f"{path}: images of {picture.shape[0]} channels make no picture; there must be 1 or 3.")
    factor = max(1, 480 // max(picture.shape[1:]))
    pixels = (picture * 255).round().byte().repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    pixels = pixels.permute(1, 2, 0).squeeze(2)
    with replacing(path) as partial:
        Image.fromarray(pixels.numpy()).save(partial, format="PNG")
