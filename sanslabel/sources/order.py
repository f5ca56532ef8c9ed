"""What an epoch is, as a function of (seed, epoch): which samples come, in which order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from sanslabel.randomness import Stream, fold, permutation


class Order(Protocol):
    """An order of samples, of which each epoch can be computed by itself."""

    @property
    def samples(self) -> int:
        """Returns the number of samples of an epoch; its batches are the full ones among them."""
        ...

    def epoch(self, seed: int, epoch: int, batch: int) -> Tensor:
        """Returns the rows of an epoch, (steps * batch,) int64; each `batch` rows in a row are one global batch."""
        ...


@dataclass(frozen=True)
class Shuffled:
    """Every sample once, in an order drawn anew for each epoch, without the last partial batch."""

    samples: int

    def epoch(self, seed: int, epoch: int, batch: int) -> Tensor:
        """Returns the rows of an epoch, (steps * batch,) int64."""
        return permutation(fold(seed, Stream.ORDER, epoch), self.samples)[: self.samples // batch * batch]
