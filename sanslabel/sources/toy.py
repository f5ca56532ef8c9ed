"""Points in a plane, made by formulas: images of one pixel, whose two channels are the coordinates in [0, 1]."""

from __future__ import annotations

from math import pi
from pathlib import Path

import torch
from torch import Tensor

from sanslabel.randomness import fold, normal, uniform
from sanslabel.sources.arrays import Splits, Stored

TOYS = ("spiral", "moons", "ring")
SIZES = {"train": 4096, "test": 1024}


def toy(name: str) -> Splits:
    """Of one of TOYS; its labels are the arm, the moon or the blob."""
    return Splits({split: _part(name, split) for split in SIZES})


def _part(name: str, split: str) -> Stored:
    points, labels = _POINTS[name](torch.arange(SIZES[split]), fold(0, list(SIZES).index(split)))
    images = ((points + 1) / 2).clamp(0, 1)[..., None, None]
    return Stored(images.numpy, labels.numpy(), Path(name))


def spiral(index: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """(n,) -> points (n, 2) in [-1, 1] on two arms of one and a half turns each, with noise of 0.015, and the arms."""
    key, arm = fold(index, seed), index % 2
    along = uniform(key, 1, 0)[:, 0].sqrt()
    angle = 3 * pi * along + pi * arm
    return _circle(angle) * (0.85 * along)[:, None] + 0.015 * normal(key, 2, 1), arm


def moons(index: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """(n,) -> points (n, 2) in [-1, 1] on two half circles that reach into each other, with noise of 0.03."""
    key, moon = fold(index, seed), index % 2
    points = 0.55 * _circle(pi * (uniform(key, 1, 0)[:, 0] + moon))
    shift = torch.tensor([[-0.275, -0.14], [0.275, 0.14]])[moon]
    return points + shift + 0.03 * normal(key, 2, 1), moon


def ring(index: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """(n,) -> points (n, 2) in [-1, 1] from eight normal blobs of deviation 0.05 on a circle."""
    key, blob = fold(index, seed), index % 8
    return 0.75 * _circle(pi / 4 * blob) + 0.05 * normal(key, 2, 1), blob


def _circle(angle: Tensor) -> Tensor:
    return torch.stack([angle.cos(), angle.sin()], dim=1)


_POINTS = {"spiral": spiral, "moons": moons, "ring": ring}
