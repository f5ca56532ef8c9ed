"""Points in a plane, made by formulas: images of one pixel, whose two channels are the coordinates in [0, 1]."""

from __future__ import annotations

from dataclasses import replace
from math import pi
from pathlib import Path

import torch
from torch import Tensor

from sanslabel.randomness import fold, normal, uniform
from sanslabel.sources.arrays import Arrays, Splits, Stored, arrays_of_images
from sanslabel.sources.source import Wanted

NAMES = ("spiral", "moons", "ring")
SIZES = {"train": 4096, "test": 1024}
"""points of each split"""


def splits(data: str | Path) -> tuple[str, ...] | None:
    """Returns the splits of a set of that name; None for anything else."""
    return tuple(SIZES) if isinstance(data, str) and data in NAMES else None


def open_source(data: str | Path, split: str, wanted: Wanted) -> Arrays | None:
    """Returns the points of a split, or of "all"; None if there is no set of that name.

    Labels are the arm, the moon or the blob.
    """
    if splits(data) is None:
        return None
    name = str(data)
    points = arrays_of_images(name, Splits({split: _stored(name, split) for split in SIZES}), split, wanted)
    return None if points is None else replace(points, noun="point")


def _stored(name: str, split: str) -> Stored:
    points, labels = _POINTS[name](torch.arange(SIZES[split]), fold(0, list(SIZES).index(split)))
    images = ((points + 1) / 2).clamp(0, 1)[..., None, None]
    return Stored(images.numpy, labels.numpy(), Path(name))


def spiral(index: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Returns points on two arms of one and a half turns each, with noise of 0.015, and the arms.

    index: (n,) -> points (n, 2) in [-1, 1], arms (n,).
    """
    key, arm = fold(index, seed), index % 2
    along = uniform(key, 1, 0)[:, 0].sqrt()
    angle = 3 * pi * along + pi * arm
    return _circle(angle) * (0.85 * along)[:, None] + 0.015 * normal(key, 2, 1), arm


def moons(index: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Returns points on two half circles that reach into each other, with noise of 0.03, and the moons.

    index: (n,) -> points (n, 2) in [-1, 1], moons (n,).
    """
    key, moon = fold(index, seed), index % 2
    points = 0.55 * _circle(pi * (uniform(key, 1, 0)[:, 0] + moon))
    shift = torch.tensor([[-0.275, -0.14], [0.275, 0.14]])[moon]
    return points + shift + 0.03 * normal(key, 2, 1), moon


def ring(index: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Returns points of eight normal blobs of deviation 0.05 on a circle, and the blobs.

    index: (n,) -> points (n, 2) in [-1, 1], blobs (n,).
    """
    key, blob = fold(index, seed), index % 8
    return 0.75 * _circle(pi / 4 * blob) + 0.05 * normal(key, 2, 1), blob


def _circle(angle: Tensor) -> Tensor:
    return torch.stack([angle.cos(), angle.sin()], dim=1)


_POINTS = {"spiral": spiral, "moons": moons, "ring": ring}
