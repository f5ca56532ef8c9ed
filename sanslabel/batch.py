"""Batches of named signals, the clock of training, and facts about the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from sanslabel.errors import BadInput
from sanslabel.inputs import ImageSpec, InputSpec
from sanslabel.randomness import Stream, fold

T = TypeVar("T", bound=tuple[Tensor | None, ...])


class Images(NamedTuple):
    """Images on canvases of one size."""

    pixels: Tensor
    """(N, C, H, W), uint8 or floating in [0, 1]; smaller images are padded with zeros on the right and below"""
    sizes: Tensor | None = None
    """(N, 2) int64, true height and width; None if every image fills its canvas"""


class Audio(NamedTuple):
    """Sounds."""

    waves: Tensor
    """(N, C, T), floating in [-1, 1] or int16; zeros after the end of shorter sounds"""
    lengths: Tensor | None = None
    """(N,) int64, true length in samples of the wave; None if every sound has length T"""


class Tokens(NamedTuple):
    """Texts as tokens of a vocabulary."""

    ids: Tensor
    """(N, T) int64, 0 after the end"""
    lengths: Tensor
    """(N,) int64, number of tokens"""


class Labels(NamedTuple):
    """Classes, which only supervised references and evaluation read."""

    ids: Tensor
    """(N,) int64, -1 for samples without a label"""


class Boxes(NamedTuple):
    """Rectangles around objects."""

    corners: Tensor
    """(N, M, 4), left, top, right and bottom in pixels"""
    ids: Tensor
    """(N, M) int64, the class or track of each box, -1 where there is no box"""


Signal = Images | Audio | Tokens | Labels | Boxes


def map_signal(signal: T, change: Callable[[Tensor], Tensor]) -> T:
    """Returns the signal with `change` applied to each of its tensors."""
    return type(signal)(*(None if tensor is None else change(tensor) for tensor in signal))  # pyright: ignore


class Batch(NamedTuple):
    """Samples as the loader returns them, on the training device. Fields are read by name, never by position."""

    index: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]
    """(N,) int64, the sample's place in its source"""
    key: Tensor
    """(N,) int64, the hash of (seed, epoch, index), from which every draw for a sample comes"""
    signals: Mapping[str, Signal]
    """signals of the samples by name: "image", "partner", "audio", "source", "target", "label", "boxes" """
    group: Tensor | None = None
    """(N,) int64, the clip, track or document of a sample: samples of one group are not negatives of each other"""
    time: Tensor | None = None
    """(N,) float64, the seconds of each sample since the start of its clip; None for data without time"""
    partner: Tensor | None = None
    """(N,) int64, the place of each sample's partner in its source; None where the source does not pair samples"""
    dtype: torch.dtype = torch.float32
    """dtype in which views of stored integers are computed"""

    @classmethod
    def of_images(
        cls, pixels: Tensor, index: Tensor, key: Tensor, labels: Tensor | None = None, sizes: Tensor | None = None
    ) -> Batch:
        """Returns a batch of images (N, C, H, W), with labels (N,) and true sizes (N, 2) if they are given."""
        signals: dict[str, Signal] = {"image": Images(pixels, sizes)}
        return cls(index, key, signals if labels is None else signals | {"label": Labels(labels)})

    def with_pixels(self, pixels: Tensor) -> Batch:
        """Returns the batch with other images (N, C, H, W), which fill their canvas, and without partners."""
        others = {name: signal for name, signal in self.signals.items() if name != "partner"}
        return self._replace(signals={**others, "image": Images(pixels)}, partner=None)

    @property
    def device(self) -> torch.device:
        """Returns the device of all tensors."""
        return self.index.device

    def images(self, stream: int = 0) -> Images:
        """Returns the images from which the view of a stream is drawn, those of the samples. If the source pairs
        samples, odd streams use the images of their partners."""
        return cast(Images, self.signals["partner" if stream % 2 and "partner" in self.signals else "image"])

    def labels(self) -> Tensor:
        """Returns the class of each sample, (N,) int64, -1 for samples without a label."""
        return cast(Labels, self.signals["label"]).ids

    def tokens(self, signal: str) -> Tokens:
        """Returns the texts of a signal, "source" or "target"."""
        return cast(Tokens, self.signals[signal])

    def clips_and_times(self) -> tuple[Tensor, Tensor]:
        """Returns the clip and the time of each sample, (N,) int64 and (N,) float64. Raises BadInput for data without
        time."""
        if self.group is None or self.time is None:
            raise BadInput("These data have no time; choose a video, or a method that needs none.")
        return self.group, self.time

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Returns the batch with `change` applied to each tensor, for example to select samples or to move them to a
        device."""
        return self._replace(
            index=change(self.index),
            key=change(self.key),
            signals={name: map_signal(cast(Any, signal), change) for name, signal in self.signals.items()},
            group=None if self.group is None else change(self.group),
            time=None if self.time is None else change(self.time),
            partner=None if self.partner is None else change(self.partner),
        )


class Clock(NamedTuple):
    """The position of a step in a run."""

    seed: int
    epoch: int
    """epochs completed before this one, from 0"""
    step: int
    """optimizer steps done before this one, from 0"""
    steps: int
    """optimizer steps of the run"""
    steps_per_epoch: int

    @property
    def key(self) -> int:
        """Returns the key of this step, the same on all processes."""
        return fold(self.seed, Stream.STEP, self.step)

    @property
    def progress(self) -> float:
        """Returns the fraction of the run that is done, in [0, 1)."""
        return self.step / self.steps

    @property
    def epochs(self) -> float:
        """Returns the number of epochs done, including the fraction of the current one."""
        return self.step / self.steps_per_epoch


class Facts(NamedTuple):
    """Facts about the data that are known before the first batch."""

    samples: int | None
    """number of samples; None for a stream that does not state it"""
    inputs: Mapping[str, InputSpec]
    """the shape of each signal as an encoder reads it"""
    classes: int = 0
    """number of classes; 0 if there are no labels"""

    @property
    def image(self) -> ImageSpec:
        """Returns the shape of the images."""
        return cast(ImageSpec, self.inputs["image"])

    def counted(self, method: str) -> int:
        """Returns the number of samples, for a method that remembers every sample. Raises BadInput if the data do not
        state the number."""
        if self.samples is None:
            raise BadInput(
                f"{method} remembers every sample, and the number of samples of this stream is not known; choose "
                "another method."
            )
        return self.samples

    @classmethod
    def of_images(cls, samples: int | None, channels: int, height: int, width: int, classes: int = 0) -> Facts:
        """Returns the facts of a data set of images."""
        return cls(samples, {"image": ImageSpec(channels=channels, height=height, width=width)}, classes)
