"""What flows through a run: the batch, where training stands, and what is known of the data."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from sanslabel.randomness import fold


class Batch(NamedTuple):
    """Samples as the loader hands them over, on the device that trains."""

    images: Tensor
    """(N, C, H, W), uint8 or float in [0, 1]; a canvas padded to the right and below where sizes differ"""
    labels: Tensor
    """(N,) int64, -1 where there is none; read by supervised references alone"""
    index: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]
    """(N,) int64, the sample's row in its source"""
    key: Tensor
    """(N,) int64, the hash of (seed, epoch, index): every draw for a sample comes from it"""
    sizes: Tensor | None = None
    """(N, 2) int64, true height and width on the canvas; None where every image fills it"""
    related: Tensor | None = None
    """(N, C, H, W), the partner of pairs that are not made by augmentation"""


class Clock(NamedTuple):
    """Where training stands."""

    seed: int
    epoch: int
    step: int
    """optimizer steps done before this one, from 0"""
    steps: int
    """in the whole run"""
    steps_per_epoch: int

    @property
    def key(self) -> int:
        """Of this step: the same on all processes."""
        return fold(self.seed, 1, self.step)

    @property
    def progress(self) -> float:
        """The part of the run that is done, in [0, 1)."""
        return self.step / self.steps

    @property
    def epochs(self) -> float:
        """Epochs done, with the fraction of this one."""
        return self.step / self.steps_per_epoch


class Facts(NamedTuple):
    """What is known of the data before the first batch."""

    samples: int
    channels: int
    height: int
    """of the images that the encoder sees"""
    width: int
    classes: int
    """0 if there are no labels"""
