"""Pictures of many images in a grid, as PNG files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sanslabel.checkpoint import replacing
from sanslabel.errors import BadInput

GAP = 2
"""pixels between images"""
SMALLEST = 480
"""pixels of a picture's longer side up to which it is enlarged, by a whole factor"""


@dataclass(frozen=True)
class Picture:
    """A picture that was written."""

    path: Path
    """the .png file"""


def grid(images: Tensor, columns: int) -> Tensor:
    """Returns images (n, C, H, W) in [0, 1] as one picture on white, row by row: (C, height, width)."""
    n, channels, height, width = images.shape
    tall, wide = height + GAP, width + GAP
    paper = torch.ones(channels, -(-n // columns) * tall + GAP, columns * wide + GAP)
    for i, image in enumerate(images):
        top, left = GAP + i // columns * tall, GAP + i % columns * wide
        paper[:, top : top + height, left : left + width] = image
    return paper


def displayable(images: Tensor) -> Tensor:
    """Returns images (n, C, H, W) with the one or three channels that a picture has.

    Of more than three channels, the first three are shown as red, green and blue. Two are shown as red and green.
    """
    if images.shape[1] == 2:
        return torch.cat([images, torch.zeros_like(images[:, :1])], dim=1)
    return images[:, :3]


def png_path(out: str | Path) -> Path:
    """Returns the path of a picture that is to be written. Raises BadInput if it does not end in .png."""
    path = Path(out)
    if path.suffix.lower() != ".png":
        raise BadInput(f"--out {path}: pictures are written as PNG; name a file that ends in .png.")
    return path


def write_png(path: Path, picture: Tensor) -> Picture:
    """Writes a picture (C, H, W) in [0, 1]. Of more than three channels, the first three are red, green and blue.
    Raises BadInput for two channels, and DiskError."""
    from PIL import Image

    path = png_path(path)
    if picture.shape[0] == 2:
        raise BadInput(f"{path}: images of 2 channels cannot be shown; a picture has 1 channel, or 3 and more.")
    picture = picture[:3]
    factor = max(1, SMALLEST // max(picture.shape[1:]))
    pixels = (picture * 255).round().byte().repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    pixels = pixels.permute(1, 2, 0).squeeze(2)
    with replacing(path) as partial:
        Image.fromarray(pixels.numpy()).save(partial, format="PNG")
    return Picture(path)
