"""Members of tar archives as a store. They are read in place; nothing is extracted."""

from __future__ import annotations

import errno
import io
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from sanslabel.errors import BadInput
from sanslabel.sources.stores.fingerprint import fingerprint_of
from sanslabel.sources.stores.store import name_below
from sanslabel.sources.stores.tar_headers import READ, read_at
from sanslabel.sources.stores.tar_index import Shard

OPEN = 64
"""most archives that a process has open at a time"""
_BUFFER = 1 << 16


@dataclass(frozen=True, eq=False)
class Members:
    """Members of archives."""

    location: Path
    """the archive, or the folder of archives"""
    shards: tuple[Path, ...]
    states: tuple[Shard, ...]
    """sizes and times of the archives when they were indexed"""
    names: list[str]
    shard: np.ndarray
    """(N,) int32, the archive of each member"""
    offset: np.ndarray
    """(N,) int64, in bytes"""
    size: np.ndarray
    """(N,) int64, in bytes"""

    def name_of(self, path: str) -> str | None:
        folder = self.location.parent if self.location.is_file() else self.location
        return name_below((os.path.abspath(folder), os.path.realpath(folder)), path)

    def open(self, index: int) -> BinaryIO:
        shard = int(self.shard[index])
        archive = _ARCHIVES.open(self.shards[shard], self.states[shard])
        member = _Content(archive, int(self.offset[index]), int(self.size[index]))
        return cast(BinaryIO, io.BufferedReader(member, _BUFFER))

    @property
    def side(self) -> None:
        return None

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(self)

    @property
    def first_status(self) -> np.ndarray:
        return self.status()

    def place(self, index: int) -> tuple[int, int]:
        return int(self.shard[index]), int(self.offset[index])

    def is_link(self, index: int) -> bool:
        return False  # links in archives are left out

    def status(self, begin: int = 0, end: int | None = None) -> np.ndarray:
        """Returns bytes of members and times of their archives, (n, 3) int64."""
        times = np.full((len(self.shards), 2), -1, np.int64)
        for number, path in enumerate(self.shards):
            try:
                status = os.stat(path)
                times[number] = status.st_mtime_ns, status.st_ctime_ns
            except OSError:
                pass
        shard = self.shard[begin:end]
        return np.concatenate([self.size[begin:end, None], times[shard]], axis=1)

    def subset(self, index: Sequence[int]) -> Members:
        chosen = np.array(index, np.int64)
        names = [self.names[row] for row in index]
        return replace(self, names=names, shard=self.shard[chosen], offset=self.offset[chosen], size=self.size[chosen])


class _Archive:
    """An open archive, which is closed when nobody reads it any more."""

    def __init__(self, path: Path, state: Shard) -> None:
        self.path, self.state, self.descriptor = path, state, os.open(path, READ)
        weakref.finalize(self, os.close, self.descriptor)

    def check_unchanged(self) -> None:
        """Raises BadInput if the archive has changed since it was indexed."""
        status = os.fstat(self.descriptor)
        if (status.st_size, status.st_mtime_ns) != (self.state.size, self.state.changed):
            raise BadInput(f"{self.path} has changed since it was opened; start again.")

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fills the buffer with bytes from an offset on, and returns their number."""
        content = read_at(self.descriptor, len(buffer), offset)
        buffer[: len(content)] = content
        return len(content)


class _Archives:
    """The archives that this process has open: the most recently used ones."""

    def __init__(self) -> None:
        self.lock, self.archives = threading.Lock(), OrderedDict[tuple[Path, Shard], _Archive]()

    def open(self, path: Path, state: Shard) -> _Archive:
        """Returns the archive, open. Raises BadInput if it has changed since it was indexed."""
        with self.lock:
            archive = self.archives.pop((path, state), None) or _Archive(path, state)
            self.archives[path, state] = archive
            while len(self.archives) > OPEN:
                self.archives.popitem(last=False)
        archive.check_unchanged()
        return archive


_ARCHIVES = _Archives()


class _Content(io.RawIOBase):
    """The bytes of one member as a file."""

    def __init__(self, archive: _Archive, begin: int, size: int) -> None:
        super().__init__()
        self.archive, self.begin, self.size, self.position = archive, begin, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, "Invalid argument")
        self.position = base + offset
        return self.position

    def readinto(self, buffer: Any) -> int:
        with memoryview(buffer) as view, view.cast("B") as content:
            wanted = max(0, min(len(content), self.size - self.position))
            read = self.archive.read_into(content[:wanted], self.begin + self.position) if wanted else 0
        if read < wanted:
            raise OSError("the archive is cut off")  # without an errno: the damage is permanent
        self.position += read
        return read
