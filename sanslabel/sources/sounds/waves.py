"""The waves of all sounds of a store, decoded once and kept in the user's cache folder for later runs."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sanslabel.errors import BadInput
from sanslabel.memory_limits import free_memory
from sanslabel.sources.progress import shown_progress
from sanslabel.sources.sounds.wave import RATE, wave_blocks
from sanslabel.sources.stores.listing import (
    SETTLED,
    cache_folder,
    packed_strings,
    remember_arrays,
    unpacked_strings,
)
from sanslabel.sources.stores.store import Store, Unreadable
from sanslabel.version import __version__

FORMAT = 1
SMALL = 32 << 20
"""bytes of files up to which files that have just changed are decoded into memory"""
KEPT = 16
"""sets of sounds whose waves stay in the cache folder"""
LONGEST_REASON = 400
"""most characters of the reason why a file cannot be read"""
Blocks = Callable[[Callable[[], BinaryIO]], Iterator[np.ndarray]]
"""a function from one that opens a file to the blocks of its wave, (T,) int16 at `RATE`"""
ABANDONED = 86_400
"""seconds after which an unfinished file is removed"""


@dataclass(frozen=True, eq=False)
class Waves:
    """The waves of sounds, one after the other."""

    samples: np.ndarray
    """(T,) int16, at `RATE`; on disk if they are in a cache"""
    ends: np.ndarray
    """(F + 1,) int64: sound f has the samples from ends[f] to ends[f + 1]; none if it cannot be read"""
    reasons: Mapping[int, str]
    """the reason for each sound that cannot be read, by its row"""

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        if isinstance(self.samples, np.memmap):  # worker processes open the file again
            return _reopened, (str(self.samples.filename), self.ends, self.reasons)
        return Waves, (self.samples, self.ends, self.reasons)


def waves_of(store: Store, name: str, blocks: Blocks = wave_blocks) -> Waves:
    """Returns the waves of all sounds of a store. Later calls take them from the user's cache folder.

    blocks: the function that decodes a file. Files that have changed within the last two seconds may change again
    without a new time stamp. They are decoded into memory if they are small. Raises BadInput if there is no space for
    the waves.
    """
    status = store.first_status
    settled = int(status.max(initial=0)) < time.time_ns() - SETTLED
    folder = cache_folder() / "sounds"
    if not settled and int(status[:, 0].clip(0).sum()) <= SMALL:
        return _in_memory(store, name, blocks)
    if not settled:
        time.sleep(SETTLED / 1e9)
        status = store.status()
    key = (
        FORMAT,
        __version__,
        blocks.__name__,
        _decoders(),
        os.fspath(store.location.absolute()),
        RATE,
        "\0".join(store.names),
    )
    place = folder / hashlib.sha256(repr(key).encode(errors="surrogateescape") + status.tobytes()).hexdigest()
    if (waves := _remembered(place, len(store.names))) is not None:
        return waves
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_room(folder)
        unfinished = place.with_suffix(f".{os.getpid()}")
        try:
            with unfinished.open("w+b") as file:
                space = shutil.disk_usage(folder).free // 2
                ends, reasons = _decode(store, name, blocks, file, space, f"free space in {folder}")
            os.replace(unfinished, place.with_suffix(".waves"))
        finally:
            unfinished.unlink(missing_ok=True)
        remember_arrays(
            place.with_suffix(".npz"),
            ends=ends,
            unreadable=np.array(list(reasons), np.int64),
            reasons=packed_strings(list(reasons.values())),
        )
        return _reopened(place.with_suffix(".waves"), ends, reasons)
    except OSError:
        return _in_memory(store, name, blocks)


def _in_memory(store: Store, name: str, blocks: Blocks) -> Waves:
    """Returns the waves without a cache on disk."""
    content = io.BytesIO()
    ends, reasons = _decode(store, name, blocks, content, free_memory() // 2, "free memory")
    return Waves(np.frombuffer(content.getbuffer(), "<i2"), ends, reasons)


def _decode(
    store: Store, name: str, blocks: Blocks, file: BinaryIO, space: int, of_what: str
) -> tuple[np.ndarray, dict[int, str]]:
    """Writes the waves to the file, and returns their ends and the reasons of unreadable sounds, see `Waves`. Raises
    BadInput if they take more than `space` bytes."""
    ends, reasons, written = [0], dict[int, str](), 0
    with shown_progress(name, len(store.names)) as show:
        for row in range(len(store.names)):
            try:
                for block in blocks(partial(store.open, row)):
                    written += block.nbytes
                    if written > space:
                        raise BadInput(
                            f"{store.location}: its sounds take more than half of the {of_what}; free some, or give"
                            " fewer sounds."
                        )
                    file.write(block.astype("<i2").data)
            except Unreadable as error:
                reasons[row] = str(error)[:LONGEST_REASON]
                written = 2 * ends[-1]
                file.seek(written)
                file.truncate()
            ends.append(written // 2)
            show(row + 1)
    return np.array(ends, np.int64), reasons


def _remembered(place: Path, count: int) -> Waves | None:
    """Returns the waves that an earlier call has left, or None. They are read from the disk when they are needed."""
    try:
        with np.load(place.with_suffix(".npz"), allow_pickle=False) as content:
            ends = content["ends"].astype(np.int64)
            reasons = dict(zip(content["unreadable"].tolist(), unpacked_strings(content["reasons"]), strict=True))
        file = place.with_suffix(".waves")
        if len(ends) != count + 1 or file.stat().st_size != 2 * ends[-1] or (np.diff(ends) < 0).any():
            return None
        os.utime(file)
        return _reopened(file, ends, reasons)
    except Exception:  # missing or damaged in any way: decode again
        return None


def _reopened(file: str | Path, ends: np.ndarray, reasons: Mapping[int, str]) -> Waves:
    """Returns the waves in a file of the cache folder, which are read when they are needed."""
    samples = np.memmap(file, "<i2", mode="r") if ends[-1] else np.empty(0, np.int16)
    return Waves(samples, ends, reasons)


def _make_room(folder: Path) -> None:
    """Removes all but the most recently used waves, and what killed processes have left."""
    used, finished = {}, {".waves", ".npz"}
    for path in folder.iterdir():
        with suppress(OSError):
            if path.suffix not in finished and path.stat().st_mtime < time.time() - ABANDONED:
                path.unlink()
    for path in folder.glob("*.waves"):
        with suppress(OSError):
            used[path] = path.stat().st_mtime_ns
    for path in sorted(used, key=used.__getitem__, reverse=True)[KEPT - 1 :]:
        with suppress(OSError):
            path.unlink()
            path.with_suffix(".npz").unlink()


def _decoders() -> str:
    """Returns the versions of the packages that decode; "" for one that is not installed."""
    versions = []
    for package in ("soundfile", "av"):
        with suppress(PackageNotFoundError):
            versions.append(f"{package} {version(package)}")
    return ", ".join(versions)
