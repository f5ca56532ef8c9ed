"""Small data sets that are kept in memory, and functions that their file formats share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self, cast

import numpy as np
import torch
from torch import Tensor

from sanslabel.batch import Audio, Images, Signal, map_signal
from sanslabel.device import to_device
from sanslabel.errors import BadInput
from sanslabel.inputs import ImageSpec, SpectrogramSpec
from sanslabel.memory_limits import main_memory
from sanslabel.sources.pictures.channels import conversion_advice, converted_remark, with_channels
from sanslabel.sources.source import Loaded, Request, Source, Wanted

DEFLATED = 1032
"""largest number of bytes that one byte compressed with deflate can unpack to"""
_PIECE = 1 << 20
"""bytes that are read at a time"""
MELS, FRAMES = 64, 96
"""mel bands and points in time of the spectrograms that encoders read of sounds, 0.95 seconds"""


class Stored(NamedTuple):
    """One split in a file, whose images are not read yet."""

    images: Callable[[], np.ndarray]
    """a function that returns (N, C, H, W), uint8 or float32 in [0, 1]"""
    labels: np.ndarray | None
    """(N,) integers, -1 where there is none"""
    file: Path
    """the file that errors name if labels and images do not fit together"""
    waves: Callable[[], np.ndarray] | None = None
    """a function that returns the sound of each image, (N, C, T), int16 or float32 in [-1, 1]; None without sounds"""


class Splits(NamedTuple):
    """The splits that files of arrays hold."""

    stored: Mapping[str, Stored]
    """"train", "test" or both, in this order"""
    classes: tuple[str, ...] = ()
    """names of the labels 0, 1, …, if the files state them"""
    hertz: int = 0
    """samples of the sounds in a second (Hz); 0 without sounds"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Arrays(Source):
    """Samples in memory, which a training run keeps on its device."""

    signals: Mapping[str, Signal]
    """the signals by name, of N samples each: "image" has pixels (N, C, H, W), uint8 or float32 in [0, 1]"""
    file_row: Tensor
    """(N,) int64, row of each training sample in its file, and ~row of each test sample, so that ids can state the
    split"""

    @property
    def images(self) -> Tensor:
        """Returns the pixels of all samples, (N, C, H, W)."""
        return cast(Images, self.signals["image"]).pixels

    @property
    def resident(self) -> bool:
        return True

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for signal in self.signals.values() for tensor in signal if tensor is not None)

    @cached_property
    def fingerprint(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        digest = hashlib.sha256()
        for name, signal in sorted(self.signals.items()):
            for tensor in signal:
                if tensor is None:
                    continue
                # Images are hashed without the signal's name, as in runs made before signals had names.
                described = (tensor.shape, tensor.dtype, self.classes)
                digest.update(repr(described if name == "image" else (name, *described)).encode())
                digest.update(tensor.cpu().contiguous().numpy().data)
        for tensor in (self.labels, self.group, self.time):
            if tensor is not None:
                digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def id(self, index: int) -> str:
        row = int(self.file_row[index])
        return f"train/{row}" if row >= 0 else f"test/{~row}"

    def load(self, request: Request) -> Loaded:
        index = to_device(request.index, self.device)
        return Loaded(index, self._chosen(index), [])

    def subset(self, index: Tensor) -> Self:
        return replace(
            self,
            signals=self._chosen(index),
            labels=self.labels[index],
            file_row=self.file_row[index],
            group=None if self.group is None else self.group[index],
            recording=None if self.recording is None else self.recording[index],
            time=None if self.time is None else self.time[index],
        )

    @property
    def device(self) -> torch.device:
        """Returns the device of all signals."""
        return next(tensor.device for signal in self.signals.values() for tensor in signal if tensor is not None)

    def to(self, device: torch.device) -> Self:
        moved = {name: map_signal(cast(Any, signal), lambda x: x.to(device)) for name, signal in self.signals.items()}
        return replace(self, signals=moved)

    def _chosen(self, index: Tensor) -> dict[str, Signal]:
        return {
            name: map_signal(cast(Any, signal), lambda tensor: tensor.index_select(0, index))
            for name, signal in self.signals.items()
        }


def arrays_of_images(name: str, splits: Splits, split: str, wanted: Wanted) -> Arrays:
    """Returns the samples of one split, or of "all".

    Labels become positions in `classes`: the names that the files state or, without names, the sorted labels of all
    splits. Raises BadInput for empty arrays, unequal numbers of labels and images, splits that do not fit together, or
    channels that cannot be converted to those of `wanted`.
    """
    images, labels, file_rows, waves = [], [], [], []
    for stored_split, (read, values, file, read_waves) in splits.stored.items():
        if split not in (stored_split, "all"):
            continue
        pixels = read()
        if values is None:
            values = np.full(len(pixels), -1)
        if len(values) != len(pixels):
            raise BadInput(
                f"{file}: {len(values)} labels for {len(pixels)} images; give each image a label (-1 for none)."
            )
        if len(pixels) == 0 or 0 in pixels.shape:
            raise BadInput(f"{file} holds no pixels (shape {pixels.shape}); give a file with images in it.")
        if images and (pixels.shape[1:] != images[0].shape[1:] or pixels.dtype != images[0].dtype):
            raise BadInput(f"{file}: training and test images differ in shape or type; open one split at a time.")
        if read_waves is not None:
            waves.append(_fitting_waves(read_waves(), len(pixels), waves, file))
        images.append(pixels)
        labels.append(_positions(values, splits))
        file_rows.append(np.arange(len(pixels)) if stored_split == "train" else ~np.arange(len(pixels)))
    pixels = np.concatenate(images) if len(images) > 1 else images[0]  # one split is not copied
    positions = torch.from_numpy(np.concatenate(labels))
    present = pixels.shape[1]
    pixels = with_channels(pixels, wanted.channels or present)
    if pixels is None:
        raise BadInput(conversion_advice(name, wanted.channels or present, present))
    channels, height, width = pixels.shape[1:]
    sounds = _sounds(waves, splits.hertz)
    return Arrays(
        name=name,
        split=split,
        signals={"image": Images(torch.from_numpy(pixels)), **{signal: audio for signal, (audio, _) in sounds.items()}},
        labels=positions,
        file_row=torch.from_numpy(np.concatenate(file_rows)),
        classes=_classes(splits) if bool((positions >= 0).any()) else (),
        inputs={
            "image": ImageSpec(channels=channels, height=height, width=width),
            **{signal: spec for signal, (_, spec) in sounds.items()},
        },
        noun="pair of image and sound" if sounds else "image",
        remarks=() if channels == present else (converted_remark(present),),
    )


def _fitting_waves(waves: np.ndarray, images: int, others: Sequence[np.ndarray], file: Path) -> np.ndarray:
    """Returns the sounds of a split. Raises BadInput if they do not fit its images or the sounds of another split."""
    if len(waves) != images or waves.size == 0:
        raise BadInput(
            f"{file}: {len(waves)} sounds (shape {waves.shape}) for {images} images; give each image a sound."
        )
    if others and (waves.shape[1:] != others[0].shape[1:] or waves.dtype != others[0].dtype):
        raise BadInput(f"{file}: training and test sounds differ in shape or type; open one split at a time.")
    return waves


def _sounds(waves: Sequence[np.ndarray], hertz: int) -> dict[str, tuple[Audio, SpectrogramSpec]]:
    """Returns the sounds as the signal "audio" with the spectrograms that encoders read, or nothing without sounds."""
    if not waves:
        return {}
    together = np.concatenate(waves) if len(waves) > 1 else waves[0]
    return {"audio": (Audio(torch.from_numpy(together)), SpectrogramSpec(mels=MELS, frames=FRAMES, rate=hertz))}


def _values(splits: Splits) -> np.ndarray:
    """Returns the sorted labels of all splits: opening one split alone must not renumber its classes."""
    if splits.classes:
        return np.arange(len(splits.classes))
    labels = [stored.labels for stored in splits.stored.values() if stored.labels is not None]
    return np.unique(np.concatenate([values[values >= 0] for values in labels])) if labels else np.arange(0)


def _classes(splits: Splits) -> tuple[str, ...]:
    return splits.classes or tuple(str(value) for value in _values(splits))


def _positions(labels: np.ndarray, splits: Splits) -> np.ndarray:
    """Returns the position of each label among the classes, (N,) int64, -1 for no label."""
    return np.where(labels < 0, -1, np.searchsorted(_values(splits), labels)).astype(np.int64)


class Bytes(Protocol):
    """A file, or an object that unpacks one."""

    def read(self, size: int = -1, /) -> bytes: ...


def content(file: Bytes, announced: int, limit: int, path: Path) -> np.ndarray:
    """Returns the next `announced` bytes of a file that can hold at most `limit` bytes, (announced,) uint8.

    Raises BadInput if the file ends early, and before allocating memory if it announces more than the limit or the
    memory.
    """
    if announced > limit:
        raise BadInput(
            f"{path} announces {announced:,} bytes and has {limit:,} at most: it is cut off or damaged; fetch it again."
        )
    if announced > main_memory():
        raise BadInput(f"{path} holds {announced:,} bytes, more than this machine's memory; give fewer images.")
    array, read = np.empty(announced, np.uint8), 0
    while piece := file.read(min(_PIECE, announced - read)):
        array[read : read + len(piece)] = np.frombuffer(piece, np.uint8)
        read += len(piece)
    if read < announced:
        raise BadInput(
            f"{path} announces {announced:,} bytes and has {read:,}: it is cut off or damaged; fetch it again."
        )
    return array


def checked_labels(labels: np.ndarray, file: Path, classes: int = 0) -> np.ndarray:
    """Returns the labels as int64.

    Raises BadInput unless they are integers in one dimension, -1 or more, and below `classes` if that is known (not 0).
    """
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise BadInput(f"{file}: labels must be integers of shape (N,), not {labels.dtype} of shape {labels.shape}.")
    labels = labels.astype(np.int64)
    if len(labels) and (labels.min() < -1 or (classes and labels.max() >= classes)):
        allowed = f"from 0 to {classes - 1}" if classes else "0 or more"
        raise BadInput(f"{file}: labels must be {allowed} (-1 for none), not {labels.min()} to {labels.max()}.")
    return labels
