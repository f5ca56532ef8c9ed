"""Moving things: clips in which a piece of clothing turns, grows, darkens and is hidden before a moving texture."""

from __future__ import annotations

from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor

from sanslabel.batch import Images
from sanslabel.inputs import ImageSpec
from sanslabel.sources import Request, Split, open_source
from sanslabel.sources.arrays import Arrays

FRAMES, SIDE, CANVAS = 64, 32, 96
"""frames of a clip, their side in pixels, and the side of the texture that the camera moves over"""
AT_ONCE = 50
"""clips that are drawn at a time"""


def moving_clips(count: int, split: Split, seed: int, frames: int = FRAMES) -> Arrays:
    """Returns clips of 32 x 32 pixels, each with one piece of Fashion-MNIST, whose class is the label of its frames.

    The piece moves, turns by up to 60 degrees either way, changes its size from 0.6 to 1.4 and its brightness from 0.6
    to 1.3, all smoothly. In half of the clips a bar passes in front of it. The camera moves over a faint texture of the
    clip's own. The group of a frame is its clip, and its time the number of the frame, as if there were one a second.
    split: "train" or "test", of which the pieces are drawn by the seed.
    """
    source = open_source("fashion", split)
    generator = torch.Generator().manual_seed(seed)
    row = torch.randperm(len(source), generator=generator)[:count]
    pieces = source.load(Request(row)).images.pixels.float() / 255  # (count, 1, 28, 28)
    pixels = torch.cat([_drawn(some, frames, generator) for some in pieces.split(AT_ONCE)])
    clip = torch.arange(count).repeat_interleave(frames)
    return Arrays(
        name=f"moving {split}",
        split=split,
        signals={"image": Images(pixels)},
        labels=source.labels[row][clip],
        file_row=torch.arange(len(clip)),
        classes=source.classes,
        inputs={"image": ImageSpec(channels=1, height=SIDE, width=SIDE)},
        group=clip,
        time=torch.arange(frames).double().repeat(count),
    )


def _drawn(pieces: Tensor, frames: int, generator: torch.Generator) -> Tensor:
    """Returns the frames of clips with these pieces, (n, 1, 28, 28) -> (n · frames, 1, 32, 32) uint8."""
    n = len(pieces)

    def smooth(low: float, high: float, most: float = 1.5) -> Tensor:
        """Returns a smooth curve for each clip, (n, frames) between `low` and `high`, of half to `most` periods."""
        periods = 0.5 + (most - 0.5) * torch.rand(n, 1, generator=generator)
        phase = 2 * pi * torch.rand(n, 1, generator=generator)
        wave = torch.sin(phase + 2 * pi * periods * torch.arange(frames) / FRAMES)
        return low + (high - low) * (1 + wave) / 2

    shown = _rendered(pieces, smooth(-pi / 3, pi / 3), smooth(0.6, 1.4), smooth(-0.3, 0.3), smooth(-0.3, 0.3))
    alpha = _rendered((pieces > 0.04).float(), *shown.path)
    pictures = _background(n, frames, smooth(-0.6, 0.6), smooth(-0.6, 0.6), generator)
    pictures = torch.lerp(pictures, shown.pictures * smooth(0.6, 1.3)[..., None, None], alpha.pictures)
    pictures = _with_bar(pictures, generator)
    pictures = pictures + 0.01 * torch.randn(pictures.shape, generator=generator)  # of the sensor
    return (255 * pictures).round().clamp(0, 255).byte().flatten(0, 1)[:, None]


class _rendered:
    """Pictures (n, frames, 32, 32) of pieces along a path of angle, scale and place."""

    def __init__(self, pieces: Tensor, *path: Tensor) -> None:
        angle, scale, x, y = self.path = path
        # From a place in the frame to a place in the piece, both in [-1, 1].
        cosine, sine = (f(angle) / scale * SIDE / pieces.shape[-1] for f in (torch.cos, torch.sin))
        shift = torch.stack([-cosine * x - sine * y, sine * x - cosine * y], dim=-1)
        turn = torch.stack([torch.stack([cosine, sine], dim=-1), torch.stack([-sine, cosine], dim=-1)], dim=-2)
        affine = torch.cat([turn, shift[..., None]], dim=-1).flatten(0, 1)  # (n · frames, 2, 3)
        n, frames = angle.shape
        grid = F.affine_grid(affine, [n * frames, 1, SIDE, SIDE], align_corners=False)
        repeated = pieces.repeat_interleave(frames, dim=0)
        self.pictures = F.grid_sample(repeated, grid, align_corners=False)[:, 0].unflatten(0, (n, frames))


def _background(n: int, frames: int, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    """Returns windows of a texture for each clip along a path in [-1, 1], (n, frames, 32, 32)."""
    texture = 0.45 + torch.zeros(n, 1, CANVAS, CANVAS)
    for cells, strength in ((6, 0.05), (12, 0.04), (24, 0.03), (48, 0.025)):
        field = strength * torch.randn(n, 1, cells, cells, generator=generator)
        texture += F.interpolate(field, size=(CANVAS, CANVAS), mode="bicubic", align_corners=False)
    size = SIDE / CANVAS
    place = torch.arange(SIDE) * 2 / SIDE + 1 / SIDE - 1
    rows, columns = torch.meshgrid(place, place, indexing="ij")
    grid = torch.stack([columns, rows], dim=-1) * size + torch.stack([x, y], dim=-1)[..., None, None, :]
    windows = F.grid_sample(
        texture.repeat_interleave(frames, dim=0), grid.flatten(0, 1), padding_mode="reflection", align_corners=False
    )
    return windows[:, 0].unflatten(0, (n, frames)).clamp(0, 1)


def _with_bar(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Returns the pictures (n, frames, 32, 32), half of the clips with a bar that crosses them, upright or lying."""
    n, frames = pictures.shape[:2]
    begin, speed, width, gray, upright, hidden = torch.rand(6, n, generator=generator)
    center = 80 * begin[:, None] - 24 + (0.4 + speed[:, None]) * (torch.arange(frames) - frames / 2)
    center = (center + 40) % 112 - 40  # it comes again from the other side
    place = torch.arange(SIDE)
    covered = (place - center[..., None]).abs() < (3 + 2.5 * width)[:, None, None]  # (n, frames, 32)
    bar = torch.where((upright < 0.5)[:, None, None, None], covered[..., None, :], covered[..., None])
    bar = bar & (hidden < 0.5)[:, None, None, None]
    return torch.where(bar, gray[:, None, None, None], pictures)
