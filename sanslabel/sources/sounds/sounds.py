"""Sound files as a source: windows of two seconds, without silent ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from sanslabel.batch import Audio
from sanslabel.errors import BadInput
from sanslabel.inputs import InputSpec, SpectrogramSpec
from sanslabel.sources.folders.copies import equal_files
from sanslabel.sources.folders.labeled_files import labeled_files
from sanslabel.sources.sounds.wave import RATE, is_sound
from sanslabel.sources.sounds.waves import Waves, waves_of
from sanslabel.sources.source import Loaded, Replaced, Request, Source, Wanted
from sanslabel.sources.stores.fingerprint import fingerprint_of
from sanslabel.sources.stores.store import Store
from sanslabel.wording import counted

KINDS = "WAV, FLAC, Ogg, Opus, MP3 or AIFF"
WINDOW = 2 * RATE
"""samples of a window"""
LEAST = RATE // 2
"""samples that the last window of a file has at least, if it is not the only one"""
SILENT = -60.0
"""level (dB of full scale, by the root of the mean square) below which a window is silent"""
_SILENT_POWER = 32768.0**2 * 10 ** (SILENT / 10)
SPEC = SpectrogramSpec(mels=64, frames=96, rate=RATE)
"""the spectrograms that encoders read: 0.95 seconds of 64 mel bands"""


class Windows(NamedTuple):
    """Windows of sounds."""

    file: np.ndarray
    """(M,) int64, the row of the sound"""
    begin: np.ndarray
    """(M,) int64, the first sample of the window in its sound"""
    length: np.ndarray
    """(M,) int64, samples of the window"""
    silent: np.ndarray
    """(M,) bool"""

    @property
    def remark(self) -> str:
        """Returns a sentence on the windows and on the share of silent ones."""
        count, silent, sounds = len(self.file), int(self.silent.sum()), len(np.unique(self.file))
        return (
            f"{counted(sounds, 'sound')} {'make' if sounds != 1 else 'makes'} {counted(count, 'window')} of up to"
            f" {WINDOW // RATE} seconds. Silent, below {SILENT:g} dB, and left out: {silent:,}"
            f" ({100 * silent / max(1, count):.1f} %)."
        )


def windows_of(waves: Waves) -> Windows:
    """Returns consecutive windows of each sound that can be read. The last one has at least `LEAST` samples, or is the
    only one of its sound."""
    lengths = np.diff(waves.ends)
    count = np.maximum((lengths + WINDOW - LEAST) // WINDOW, lengths > 0)
    file = np.repeat(np.arange(len(lengths)), count)
    begin = (np.arange(len(file)) - np.repeat(np.cumsum(count) - count, count)) * WINDOW
    length = np.minimum(WINDOW, lengths[file] - begin)
    start = waves.ends[:-1][file] + begin
    power = [_power(waves.samples[s : s + n]) for s, n in zip(start.tolist(), length.tolist(), strict=True)]
    return Windows(file, begin, length, np.array(power) < _SILENT_POWER)


def windows_around(waves: Waves, file: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the windows in the middle of which these times lie, or the nearest ones within the sound.

    file: (N,) rows of sounds; time: (N,) seconds -> the first sample of each window in its sound, (N,) int64, and
    whether it is silent, (N,) bool. Windows of sounds that cannot be read are silent.
    """
    begin, silent = np.zeros(len(file), np.int64), np.ones(len(file), bool)
    for row in np.unique(file).tolist():
        samples, here = waves.samples[waves.ends[row] : waves.ends[row + 1]], file == row
        if not len(samples):
            continue
        latest = max(0, len(samples) - WINDOW)
        begin[here] = ((time[here] * RATE).round().astype(np.int64) - WINDOW // 2).clip(0, latest)
        energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
        end = np.minimum(begin[here] + WINDOW, len(samples))
        silent[here] = (energy[end] - energy[begin[here]]) / (end - begin[here]) < _SILENT_POWER
    return begin, silent


def cut(waves: Waves, file: np.ndarray, begin: np.ndarray) -> Audio:
    """Returns the windows that begin at these samples of these sounds: files (n,), begins (n,) -> waves (n, 1, WINDOW)
    int16, with zeros after the end of a sound."""
    start = waves.ends[:-1][file] + begin
    length = np.minimum(WINDOW, waves.ends[1:][file] - start)
    samples = np.zeros((len(file), 1, WINDOW), np.int16)
    for place, (s, n) in enumerate(zip(start.tolist(), length.tolist(), strict=True)):
        samples[place, 0, :n] = waves.samples[s : s + n]
    filled = bool((length == WINDOW).all())
    return Audio(torch.from_numpy(samples), None if filled else torch.from_numpy(length))


@dataclass(frozen=True, kw_only=True, eq=False)
class Sounds(Source):
    """Windows of sound files. A window is a sample with the label of its file, and the windows of a file are a group.

    A file that cannot be read counts as one sample, which is replaced by the next one that can be read.
    """

    store: Store
    waves: Waves
    file: Tensor
    """(N,) int64, the row of each sample's file in the store"""
    begin: Tensor
    """(N,) int64, the sample of the file's wave that the window begins with; -1 for a file that cannot be read"""
    inputs: Mapping[str, InputSpec] = field(default_factory=lambda: {"audio": SPEC})
    noun: str = "window of sound"

    @cached_property
    def fingerprint(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Returns a SHA-256 of all files, see `fingerprint_of`, which copies of the data share."""
        return fingerprint_of(self.store)

    def id(self, index: int) -> str:
        """Returns the path of the file, with the second at which the window begins if it is not the first."""
        name, begin = self.store.names[int(self.file[index])], int(self.begin[index])
        return f"{name}#t={begin / RATE:g}" if begin > 0 else name

    def load(self, request: Request) -> Loaded:
        requested = request.index.cpu()
        index = self._readable[requested]
        if bool((index < 0).any()):
            bad = self.id(int(requested[0]))
            raise BadInput(f"{self.store.location}: none of its sounds can be read, from {bad} on; give others.")
        replaced = [
            Replaced(place, self.id(row), self._reason(row))
            for place, row in enumerate(requested.tolist())
            if int(index[place]) != row
        ]
        return Loaded(index, {"audio": cut(self.waves, self.file[index].numpy(), self.begin[index].numpy())}, replaced)

    def subset(self, index: Tensor) -> Self:
        group = None if self.group is None else self.group[index]
        return replace(self, labels=self.labels[index], group=group, file=self.file[index], begin=self.begin[index])

    def _reason(self, row: int) -> str:
        return self.waves.reasons[int(self.file[row])]

    @cached_property
    def _readable(self) -> Tensor:
        """Returns the row that is loaded for each row: itself or the next one that can be read, (N,) int64; -1 if there
        is none."""
        return next_of(self.begin >= 0)


def next_of(good: Tensor) -> Tensor:
    """Returns for each place the next one that is good, itself included, and from the last on the first one again; -1
    if none is: (N,) bool -> (N,) int64."""
    places = good.nonzero()[:, 0]
    if not len(places):
        return torch.full((len(good),), -1)
    after = torch.searchsorted(places, torch.arange(len(good)))
    return places[after % len(places)]


def sounds_from(store: Store, name: str, split: str, prefixes: Mapping[str, tuple[str, ...]], wanted: Wanted) -> Sounds:
    """Returns the windows of the sounds of one split, or of "all".

    prefixes: the folders of each split, with their slashes. Sub-folders are classes, unless `wanted` has a label file.
    Files with the same bytes count once. Raises BadInput if there are no sounds, or if all of them are silent.
    """
    if not store.names:
        raise BadInput(f"{store.location} holds no sounds ({KINDS}); name a folder with sounds.")
    equal = () if wanted.copies else equal_files(store, lambda row: is_sound(partial(store.open, row)))
    files = labeled_files(store, split, prefixes, equal, f"sounds ({KINDS})", wanted.labels, kind="sound")
    chosen = store.subset(files.index)
    waves = waves_of(chosen, name)
    windows = windows_of(waves)
    check_audible(chosen, waves, windows)
    audible, unreadable = ~windows.silent, np.array(sorted(waves.reasons), np.int64)
    file = np.concatenate([windows.file[audible], unreadable])
    begin = np.concatenate([windows.begin[audible], np.full_like(unreadable, -1)])
    order = np.lexsort((begin, file))
    file, begin = torch.from_numpy(file[order]), torch.from_numpy(begin[order])
    return Sounds(
        name=name,
        split=split,
        store=chosen,
        waves=waves,
        labels=files.labels[file],
        classes=files.classes,
        group=file,
        file=file,
        begin=begin,
        remarks=(*files.remarks, windows.remark),
        no_labels=files.no_labels,
        labels_sha256="" if wanted.labels is None else wanted.labels.sha256,
        skip_unreadable=wanted.skip_unreadable,
    )


def check_audible(store: Store, waves: Waves, windows: Windows) -> None:
    """Raises BadInput if no sound of the store can be read, or if all of them are silent."""
    if not len(windows.file):
        row, reason = next(iter(waves.reasons.items()))
        raise BadInput(
            f"{store.location}: none of its {counted(len(waves.reasons), 'sound')} can be read"
            f" ({store.names[row]}: {reason}); give others."
        )
    if windows.silent.all():
        raise BadInput(f"{store.location}: all sounds are silent, below {SILENT:g} dB; give others.")


def _power(samples: np.ndarray) -> float:
    """Returns the mean square of samples."""
    return float(np.square(samples, dtype=np.float64).mean())
