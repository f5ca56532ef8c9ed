"""Pictures with their sounds: samples of two signals."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import Tensor

from sanslabel.errors import BadInput
from sanslabel.inputs import InputSpec
from sanslabel.randomness import Stream, bits, fold
from sanslabel.sources.pictures.images import ImagesFrom, images_from
from sanslabel.sources.remarks import first_names, pictures
from sanslabel.sources.sounds.sound_track import track_blocks
from sanslabel.sources.sounds.sounds import SILENT, SPEC, check_audible, cut, next_of, windows_around, windows_of
from sanslabel.sources.sounds.waves import Waves, waves_of
from sanslabel.sources.source import Loaded, Replaced, Request, Source, Wanted, describe_
from sanslabel.sources.stores.fingerprint import fingerprint_of
from sanslabel.sources.stores.listing import Listing
from sanslabel.sources.stores.store import Store
from sanslabel.wording import counted


@dataclass(frozen=True, kw_only=True, eq=False)
class WithSounds(Source):
    """The samples of `base`, each with a window of its sound as the signal "audio".

    The window is drawn from the sample's key among its windows, none of which is silent. A sample whose sound cannot
    be read is replaced as one whose picture cannot be read, so that a picture never gets another one's sound.
    """

    base: Source
    sounds: Store
    """the sound files"""
    waves: Waves
    file: Tensor
    """(N,) int64, the row of each sample's sound"""
    begin: Tensor
    """(M,) int64, the first sample of each window in its sound"""
    first: Tensor
    """(N,) int64, the first window of each sample"""
    count: Tensor
    """(N,) int64, the number of windows of each sample, which follow each other; 0 if its sound cannot be read"""
    name: str = field(init=False)
    split: str = field(init=False)
    labels: Tensor = field(init=False)
    classes: tuple[str, ...] = field(init=False)
    inputs: Mapping[str, InputSpec] = field(init=False)

    def __post_init__(self) -> None:
        describe_(self, self.base)
        object.__setattr__(self, "inputs", {**self.base.inputs, "audio": SPEC})
        object.__setattr__(self, "noun", f"pair of {self.base.noun} and sound")

    @property
    def decodes(self) -> bool:
        return self.base.decodes

    @property
    def pictures(self) -> ImagesFrom | None:
        return self.base.pictures

    def with_pictures(self, pictures: ImagesFrom) -> Self:
        return replace(self, base=self.base.with_pictures(pictures))

    @cached_property
    def fingerprint(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        digest = hashlib.sha256(f"{self.base.fingerprint} {fingerprint_of(self.sounds)} ".encode())
        digest.update(self.file.numpy().data)
        return digest.hexdigest()

    def id(self, index: int) -> str:
        return self.base.id(index)

    def subset(self, index: Tensor) -> Self:
        rest = {name: getattr(self, name)[index] for name in ("file", "first", "count")}
        return replace(self, base=self.base.subset(index), **rest)

    def load(self, request: Request) -> Loaded:
        loaded, silenced = self.base.load(request), list[Replaced]()
        for _ in range(self.tolerated() + 1):
            index = loaded.index.cpu()
            good = self._audible[index]
            if bool((good == index).all()):
                audio = cut(self.waves, self.file[index].numpy(), self._begins(index, request.key).numpy())
                return Loaded(loaded.index, {**loaded.signals, "audio": audio}, [*silenced, *loaded.replaced])
            silenced += loaded.replaced
            for place in (good != index).nonzero()[:, 0].tolist():
                row = int(index[place])
                file = int(self.file[row])
                silenced.append(Replaced(place, self.id(row), f"{self.sounds.names[file]}: {self.waves.reasons[file]}"))
            loaded = self.base.load(Request(good, request.key))
        raise BadInput(
            f"{self.name}: {len(silenced)} samples in a row have no readable picture and sound, from {silenced[0].id}"
            " on; add --skip-unreadable to go on without them, or remove or mend them."
        )

    def _begins(self, index: Tensor, key: int) -> Tensor:
        """Returns the first sample of each sample's window, drawn with an epoch's key: rows (n,) -> (n,) int64."""
        keys = fold(fold(torch.full_like(index, key), index), Stream.SOUND)
        return self.begin[self.first[index] + ((bits(keys, 1, 0)[:, 0] * self.count[index]) >> 32)]

    @cached_property
    def _audible(self) -> Tensor:
        """Returns the row that is loaded for each row: itself or the next one whose sound can be read."""
        return next_of(self.count > 0)


def pictures_with_sounds(
    pictures_store: Store,
    sounds_store: Store,
    files: Listing,
    name: str,
    split: str,
    prefixes: Mapping[str, tuple[str, ...]],
    wanted: Wanted,
) -> WithSounds:
    """Returns the pictures of one split, or of "all", that share the stem of their path with a sound.

    files: the names of both, of which pictures and sounds without a partner are left out. Pairs whose sound is silent
    are left out, too. Raises BadInput if no picture and sound share a stem.
    """
    sound_of = {_stem(name): row for row, name in reversed(list(enumerate(files.sounds)))}
    paired = [row for row, name in enumerate(files.names) if _stem(name) in sound_of]
    if not paired:
        raise BadInput(
            f"{pictures_store.location}: no picture and sound share a stem, as cat.png and cat.ogg do. The pictures"
            f" are {first_names(files.names)}; the sounds are {first_names(files.sounds)}. Rename them, or keep"
            " pictures and sounds in folders of their own."
        )
    chosen = sorted({sound_of[_stem(files.names[row])] for row in paired})
    sounds = sounds_store.subset(chosen)
    waves = waves_of(sounds, name)
    windows = windows_of(waves)
    check_audible(sounds, waves, windows)
    audible = ~windows.silent
    count = np.bincount(windows.file[audible], minlength=len(chosen))
    readable = {row for row, windows_left in enumerate(count.tolist()) if windows_left or row in waves.reasons}
    place = {_stem(sounds.names[row]): row for row in range(len(chosen))}
    kept = [row for row in paired if place[_stem(files.names[row])] in readable]
    base = images_from(pictures_store.subset(kept), name, split, prefixes, wanted)
    file = np.array([place[_stem(name)] for name in base.store.names], np.int64)
    source = WithSounds(
        base=base,
        sounds=sounds,
        waves=waves,
        file=torch.from_numpy(file),
        begin=torch.from_numpy(windows.begin[audible]),
        first=torch.from_numpy((np.cumsum(count) - count)[file]),
        count=torch.from_numpy(count[file]),
    )
    left = _left_out(files, len(paired), len(chosen), len(paired) - len(kept))
    return replace(source, remarks=(*base.remarks, windows.remark, *left))


def with_sound_tracks(frames: Source, videos: Store, video: np.ndarray, time: np.ndarray) -> WithSounds:
    """Returns frames of videos with the two seconds of sound around each of them. Frames around which the video is
    silent, or has no sound, are left out.

    videos: the files; video: (N,) the row of each frame's video; time: (N,) seconds from the start of the video. Raises
    BadInput if no video has a sound track, or if all of them are silent.
    """
    waves = waves_of(videos, frames.name, track_blocks)
    begin, silent = windows_around(waves, video, time)
    if len(waves.reasons) == len(videos.names):
        raise BadInput(
            f"{frames.name}: no video has sound that can be read ({videos.names[0]}: {waves.reasons[0]}); choose a"
            " method that reads pictures alone."
        )
    if silent.all():
        raise BadInput(f"{frames.name}: its sound is silent throughout, below {SILENT:g} dB; give other videos.")
    kept = np.flatnonzero(~silent)
    source = WithSounds(
        base=frames.subset(torch.from_numpy(kept)),
        sounds=videos,
        waves=waves,
        file=torch.from_numpy(video[kept].astype(np.int64)),
        begin=torch.from_numpy(begin[kept]),
        first=torch.arange(len(kept)),
        count=torch.ones(len(kept), dtype=torch.int64),
    )
    share = f"{len(silent) - len(kept):,} of {len(silent):,} ({100 * silent.mean():.1f} %)"
    remarks = [
        *frames.remarks,
        f"Frames left out, since the sound around them is silent, below {SILENT:g} dB: {share}.",
    ]
    if waves.reasons:
        without = [videos.names[row] for row in waves.reasons]
        remarks.append(f"Videos without sound that can be read: {len(without):,} ({first_names(without)}).")
    return replace(source, remarks=tuple(remarks))


def _stem(path: str) -> str:
    return os.path.splitext(path)[0]


def _left_out(files: Listing, paired: int, used: int, silent: int) -> Sequence[str]:
    """Returns sentences on the pictures and sounds without a partner."""
    sentences = []
    alone, unused = len(files.names) - paired, len(files.sounds) - used
    if alone or unused:
        sentences.append(f"Left out, since they make no pair: {pictures(alone)}, {counted(unused, 'sound')}.")
    if silent:
        sentences.append(f"Left out, since their sound is silent: {pictures(silent)}.")
    return sentences
