"""What every source of samples answers, whatever its files are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

from sanslabel.batch import Facts
from sanslabel.randomness import permutation


class Loaded(NamedTuple):
    """The samples of some rows."""

    images: Tensor
    """(n, C, H, W), uint8 or float32 in [0, 1]; zeros to the right of and below smaller images"""
    sizes: Tensor | None
    """(n, 2) int64, true height and width; None where every image fills the canvas"""
    replaced: list[tuple[int, str, str]]
    """position among the n, id and reason of every sample that could not be read"""
    rows: Tensor
    """(n,) int64, the rows that are here: those asked for, but for the replaced"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Source(ABC):
    """Samples in a fixed order, all of one channel count."""

    name: str
    split: str
    labels: Tensor
    """(N,) int64, positions in `classes`, -1 where there is none"""
    classes: tuple[str, ...]
    """names; empty without labels"""
    channels: int
    height: int
    """of the canvas; for files of unequal sizes, the side to train at"""
    width: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def decodes(self) -> bool:
        """Whether it takes so long to load samples that processes of their own are to do it."""
        return False

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A SHA-256 that changes when the data do."""

    @abstractmethod
    def id(self, index: int) -> str:
        """The name of a sample in every output: its relative path, or its split and row."""

    @abstractmethod
    def load(self, index: list[int]) -> Loaded:
        """The samples of these rows; one that cannot be read is replaced by the next that can, always the same one."""

    @abstractmethod
    def subset(self, index: Tensor) -> Self:
        """The same source with only the rows (n,) of `index`, in that order."""

    def facts(self, image_size: int | None = None) -> Facts:
        """What a method may know: height and width are `image_size` where given, else those of the canvas."""
        height, width = (image_size, image_size) if image_size else (self.height, self.width)
        return Facts.of_images(len(self), self.channels, height, width, len(self.classes))

    def standardization(self, limit: int = 512) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel's pixels in [0, 1], over `limit` fixed samples drawn from all.

        The deviation is at least one step of eight bits, so that a constant channel can be divided by it.
        """
        rows = permutation(0, len(self))[:limit].tolist()
        total, square, count = torch.zeros(self.channels).double(), torch.zeros(self.channels).double(), 0
        for begin in range(0, len(rows), 32):
            loaded = self.load(rows[begin : begin + 32])
            pixels = loaded.images.double()
            if loaded.images.dtype == torch.uint8:
                pixels /= 255
            total += pixels.sum((0, 2, 3))
            square += pixels.square().sum((0, 2, 3))
            # Padding is zero: the sums need no mask, only the count leaves it out.
            count += pixels[:, 0].numel() if loaded.sizes is None else int(loaded.sizes.prod(1).sum())
        mean = total / count
        std = (square / count - mean.square()).clamp_min(0).sqrt().clamp_min(1 / 255)
        return tuple(mean.tolist()), tuple(std.tolist())


def tolerated(samples: int) -> int:
    """Samples that may be unreadable before the data count as damaged: 1 %, and three in any case."""
    return max(3, samples // 100)
