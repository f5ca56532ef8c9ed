"""The protocol of a source of samples, for any kind of file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Self, cast

import torch
from torch import Tensor

from sanslabel.batch import Batch, Facts, Images, Signal
from sanslabel.errors import BadInput
from sanslabel.inputs import ImageSpec, InputSpec, SpectrogramSpec
from sanslabel.randomness import permutation
from sanslabel.sources.data import TextChoices
from sanslabel.sources.order import Grouped, Order, Shuffled, Stretches
from sanslabel.sources.pictures.levels import Levels
from sanslabel.sources.progress import counted_off
from sanslabel.views.spectrogram import LogMel

if TYPE_CHECKING:
    from sanslabel.sources.folders.label_file import LabelFile
    from sanslabel.sources.pictures.images import ImagesFrom


LEAST_DEVIATION = 1 / 255
"""least standard deviation of a channel, one step of 8 bits"""


class Request(NamedTuple):
    """The rows of the samples to load, and the key from which their draws come."""

    index: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]
    """(n,) int64, rows of the source"""
    key: int = 0
    """the key of the epoch; a draw for a row comes from `fold(key, row)` alone"""
    batch: Tensor | None = None
    """(N,) int64, the rows of the batch of all processes, to which texts are padded alike; None for `index` alone"""


class Wanted(NamedTuple):
    """The shape of pictures that a run requests from a format; None leaves a value open."""

    image_size: int | None = None
    """the side in pixels at which files of images are trained; it limits the size of decoded images"""
    channels: int | None = None
    """the number of channels to read; only gray and color are converted to each other"""
    levels: Levels | None = None
    """the levels that files of more than 8 bits are scaled to, one for each channel"""
    labels: LabelFile | None = None
    """the labels of image files, in place of those that their folders state"""
    skip_unreadable: bool = False
    clips: bool = False
    """True if pictures are frames, and each folder of them is a clip"""
    fps: float | None = None
    """most frames a second that are kept of a video, and the rate of folders of frames"""
    frame_side: int | None = None
    """the shorter side in pixels to which frames of videos are reduced"""
    signals: tuple[str, ...] = ("image",)
    """signals that the method reads"""
    copies: bool = False
    """True to count each copy of an image file as a sample of its own"""
    text: TextChoices = TextChoices()
    """how texts are read"""


class Replaced(NamedTuple):
    """A sample that could not be read and was replaced by another one."""

    position: int
    """its place in the request"""
    id: str
    reason: str


class Loaded(NamedTuple):
    """Samples as a source returns them."""

    index: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]
    """(n,) int64, the rows that were loaded: the requested ones or their replacements"""
    signals: Mapping[str, Signal]
    """the signals by name, of n samples each"""
    replaced: list[Replaced]
    """the samples that could not be read"""
    partner: Tensor | None = None
    """(n,) int64, the row of each sample's partner; None where the source does not pair samples"""

    @property
    def images(self) -> Images:
        """Returns the pictures of the samples."""
        return cast(Images, self.signals["image"])


@dataclass(frozen=True, kw_only=True, eq=False)
class Source(ABC):
    """Samples in a fixed order, each with the same signals."""

    name: str
    split: str
    labels: Tensor
    """(N,) int64, positions in `classes`, -1 for no label; a batch has them as its signal "label" """
    classes: tuple[str, ...]
    """names of the classes; empty without labels"""
    inputs: Mapping[str, InputSpec]
    """the shape of each signal; for image files, whose sizes may differ, the size to train at"""
    noun: str = "image"
    """the word for a sample, such as "frame" or "window of sound" """
    group: Tensor | None = None
    """(N,) int64, the clip, track or document of each sample; None where samples are independent"""
    recording: Tensor | None = None
    """(N,) int64, the video of each frame, which may have several groups; None where groups have nothing in common"""
    time: Tensor | None = None
    """(N,) float64, seconds from the start of the sample's clip; None where samples have no time"""
    remarks: tuple[str, ...] = ()
    """sentences about the data that a person should know, such as which files were left out"""
    no_labels: str = ""
    """the reason why no sample has a label, if a person may not expect it"""
    labels_sha256: str = ""
    """the SHA-256 of the file that states the labels; empty if the data state them"""
    skip_unreadable: bool = False
    """True if any number of samples may be unreadable"""

    def __len__(self) -> int:
        return len(self.labels)

    def tolerated(self, samples: int | None = None) -> int:
        """Returns how many of so many samples, by default all, may be unreadable; see `tolerated`."""
        samples = len(self) if samples is None else samples
        return samples if self.skip_unreadable else tolerated(samples)

    @property
    def samples(self) -> int | None:
        """Returns the number of samples; None for a stream that does not state it.

        The rows of a stream are counted from its start. It loads its labels as a signal, and its `order` defines an
        epoch.
        """
        return len(self)

    @property
    def image(self) -> ImageSpec:
        """Returns the shape of pictures."""
        return cast(ImageSpec, self.inputs["image"])

    @property
    def channels(self) -> int:
        """Returns the number of channels of pictures."""
        return self.image.channels

    @property
    def height(self) -> int:
        """Returns the height of pictures in pixels."""
        return self.image.height

    @property
    def width(self) -> int:
        """Returns the width of pictures in pixels."""
        return self.image.width

    @property
    def resident(self) -> bool:
        """Returns True if all samples lie in memory as tensors, so that they can be moved with `to`."""
        return False

    @property
    def nbytes(self) -> int:
        """Returns the bytes of all samples of a resident source."""
        return 0

    @property
    def decodes(self) -> bool:
        """Returns True if loading takes so long that worker processes should do it."""
        return False

    @property
    def pictures(self) -> ImagesFrom | None:
        """Returns the image files that this source decodes, which a cache can keep; None if there are none."""
        return None

    @property
    def files(self) -> Mapping[str, bytes]:
        """Returns the content of files that a run keeps in its folder, by name, since its encoder cannot be used
        without them: the vocabulary of texts."""
        return {}

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Returns a SHA-256 that changes when the data change."""

    @abstractmethod
    def id(self, index: int) -> str:
        """Returns the name of a sample in every output: its relative path, or its split and row."""

    @abstractmethod
    def load(self, request: Request) -> Loaded:
        """Returns the requested samples. All draws for a row come from `fold(request.key, row)`.

        A sample that cannot be read is replaced by the next readable one, which is always the same. Raises BadInput if
        there is none.
        """

    @abstractmethod
    def subset(self, index: Tensor) -> Self:
        """Returns the same source with only the rows (n,) of `index`, in that order."""

    def to(self, device: torch.device) -> Self:
        """Returns the source with its samples on the device if it is resident, otherwise unchanged."""
        return self

    def with_pictures(self, pictures: ImagesFrom) -> Self:
        """Returns the source with its `pictures` replaced by these, the same files with a cache."""
        return self

    def with_varied_boxes(self) -> Self:
        """Returns the source with the boxes of tracked objects moved and scaled by the keys of the samples, as pairs
        need them. Other sources are returned unchanged."""
        return self

    @property
    def order(self) -> Order:
        """Returns the order of an epoch, unless a run requests another order. No batch has two samples of a group if
        there are enough batches, see `Grouped`."""
        return Shuffled(len(self)) if self.group is None else Grouped(self.group.cpu())

    def order_of(self, stretch: int) -> Order:
        """Returns the order of an epoch for a method: the source's own, or for a stretch above 1 one in which so many
        samples of a clip follow each other in time. Raises BadInput if the samples have no time."""
        if stretch == 1:
            return self.order
        if self.group is None or self.time is None:
            raise BadInput(
                f"{self.name}: has no time, and the method learns from frames of clips; name a video with --data, add "
                "--fps if each of its folders holds the frames of a clip, or choose another method."
            )
        return Stretches(self.group.cpu(), self.time.cpu(), stretch)

    def facts(self, image_size: int | None = None) -> Facts:
        """Returns the facts that a method may know. With `image_size`, pictures are stated as squares of that side."""
        inputs = {
            name: replace(spec, height=image_size, width=image_size)
            if image_size and isinstance(spec, ImageSpec)
            else spec
            for name, spec in self.inputs.items()
        }
        return Facts(self.samples, inputs, len(self.classes))

    def standardization(self, limit: int = 512, signal: str = "image") -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Returns the mean and standard deviation of each channel's pixels in [0, 1], or those of the log-mel
        spectrograms if the signal is a sound.

        They are measured on a fixed random selection of `limit` samples. The deviation is at least LEAST_DEVIATION, so
        that a constant channel can be divided by it.
        """
        if isinstance(spec := self.inputs[signal], SpectrogramSpec):
            return self._standardization_of_sound(LogMel.of(spec), limit)
        drawn = torch.arange(limit) if self.samples is None else permutation(0, self.samples)[:limit]
        total, square, count = torch.zeros(self.channels).double(), torch.zeros(self.channels).double(), 0
        pieces = drawn.split(32)
        for index in counted_off(pieces, self.name) if self.decodes else pieces:
            images = self.load(Request(index)).images
            pixels = images.pixels.double()
            if images.pixels.dtype == torch.uint8:
                pixels /= 255
            total += pixels.sum((0, 2, 3))
            square += pixels.square().sum((0, 2, 3))
            # Padding is zero, so that the sums need no mask; only the count leaves it out.
            count += pixels[:, 0].numel() if images.sizes is None else int(images.sizes.prod(1).sum())
        mean = total / count
        std = (square / count - mean.square()).clamp_min(0).sqrt().clamp_min(LEAST_DEVIATION)
        return tuple(mean.tolist()), tuple(std.tolist())

    def _standardization_of_sound(self, view: LogMel, limit: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Returns the mean and deviation of plain spectrograms, for their one channel."""
        pieces = []
        for index in permutation(0, len(self))[:limit].split(32):
            loaded = self.load(Request(index))
            pieces.append(view.plain(Batch(loaded.index, loaded.index, loaded.signals)).images.double())
        spectrograms = torch.cat(pieces)
        return (float(spectrograms.mean()),), (max(LEAST_DEVIATION, float(spectrograms.std(correction=0))),)


DESCRIPTION = (
    *("name", "split", "noun", "labels", "classes", "group", "recording", "time"),
    *("no_labels", "labels_sha256", "skip_unreadable"),
)
"""fields that a source has from the one whose samples it changes"""


def describe_(source: Source, base: Source) -> None:
    """Sets what a source states about its samples to what `base` states, whose samples it changes."""
    for name in DESCRIPTION:
        object.__setattr__(source, name, getattr(base, name))


def tolerated(samples: int) -> int:
    """Returns how many samples may be unreadable before the data count as damaged: 1 %, and three in any case."""
    return max(3, samples // 100)
