"""Decoded pictures one behind the other in one file, and a table of where each of them lies.

The file is read at positions rather than mapped: a page of a mapped file that cannot be read, since its disk fails or
somebody has cut it off, ends the process with a signal, while a read ends in an error that a decoder can stand in for.
It takes 6 ms for 64 pictures of 256 x 341, a mapped one 2 ms and decoding them 100 ms.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import warnings
import weakref
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from sanslabel.sources.stores.store import Unreadable

FORMAT = 1
TABLE = np.dtype([("offset", "<i8"), ("height", "<i4"), ("width", "<i4"), ("check", "<u4")])
"""offset in bytes, or one of those below; CRC-32 of the pixels"""
ABSENT, UNREADABLE = -1, -2

_FOOTER = struct.Struct("<16sQQQQ32s")
"""mark, channels, rows, bytes of pixels, bytes of reasons, SHA-256 of table and reasons"""
_MARK = b"sanslabel %06d" % FORMAT


class Decoded:
    """The pictures of a folder's rows that lie in a file, which it holds open and closes at its own end. OSError or
    ValueError for a file that is not whole."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)
        end = os.fstat(descriptor).st_size - _FOOTER.size
        mark, self.channels, rows, pixels, said, digest = _FOOTER.unpack(_read(descriptor, _FOOTER.size, end))
        if mark != _MARK or end != pixels + rows * TABLE.itemsize + said:
            raise ValueError("it is of another kind or cut off")
        table = _read(descriptor, rows * TABLE.itemsize, pixels)
        reasons = _read(descriptor, said, end - said)
        if hashlib.sha256(table + reasons).digest() != digest:
            raise ValueError("its table is damaged")
        self.table = np.frombuffer(table, TABLE)
        self.reasons: dict[int, str] = {int(row): why for row, why in json.loads(reasons).items()}
        self.size = pixels
        self.checked = np.zeros(rows, bool)
        self.damaged = False

    def __len__(self) -> int:
        return len(self.table)

    def __reduce__(self) -> tuple[Any, ...]:
        from multiprocessing.reduction import DupFd  # which Windows has not

        return _received, (DupFd(self.descriptor),)

    @property
    def absent(self) -> int:
        """Pictures that are still to be decoded."""
        return int((self.table["offset"] == ABSENT).sum())

    @property
    def unfitting(self) -> int:
        """Those of them for which there was no room."""
        return self.absent - sum(self.table["offset"][row] == ABSENT for row in self.reasons)

    def pixels(self, row: int) -> np.ndarray | None:
        """(C, H, W) uint8; None for what is to be decoded, since it does not lie here, or no longer as it was written,
        which is told of once. Unreadable for what could not be decoded."""
        offset, height, width, check = self.table[row].item()
        if offset == UNREADABLE:
            raise Unreadable(self.reasons[row])
        if offset == ABSENT:
            return None
        found = np.empty((self.channels, height, width), np.uint8)
        try:
            whole = os.preadv(self.descriptor, [found.data], offset) == found.nbytes
            if whole and not self.checked[row]:
                self.checked[row] = whole = zlib.crc32(found.data) == check
            why = "" if whole else "pixels have changed"
        except OSError as error:
            why = error.strerror or str(error)
        if why and not self.damaged:
            self.damaged = True
            warnings.warn(f"a cache of pictures is damaged ({why}); they are decoded instead", stacklevel=2)
        return None if why else found


class Unfinished:
    """A file that pictures are written to."""

    def __init__(self, descriptor: int, rows: int, channels: int) -> None:
        self.descriptor, self.channels, self.size = descriptor, channels, 0
        self.table = np.zeros(rows, TABLE)
        self.table["offset"] = ABSENT
        self.reasons: dict[int, str] = {}
        os.ftruncate(descriptor, 0)

    def append(self, rows: list[int], pixels: memoryview, table: np.ndarray, reasons: Mapping[int, str]) -> None:
        """Pictures (bytes,) one behind the other, and their part of the table with offsets from the first of them. What
        cannot be written as a whole is not there: OSError."""
        try:
            _write(self.descriptor, pixels, self.size)
        except OSError:
            os.ftruncate(self.descriptor, self.size)
            raise
        moved = table.copy()
        moved["offset"][table["offset"] >= 0] += self.size
        self.table[rows] = moved
        self.reasons |= reasons
        self.size += pixels.nbytes

    def finish(self) -> None:
        """Writes the table, and all of it through to the disk."""
        table, reasons = self.table.tobytes(), json.dumps(self.reasons).encode()
        digest = hashlib.sha256(table + reasons).digest()
        footer = _FOOTER.pack(_MARK, self.channels, len(self.table), self.size, len(reasons), digest)
        _write(self.descriptor, table + reasons + footer, self.size)
        os.fsync(self.descriptor)


def _received(shared: Any) -> Decoded:
    """In a worker process, from its parent's open file, which may have no name any more."""
    return Decoded(shared.detach())


def _read(descriptor: int, size: int, begin: int) -> bytes:
    if size < 0 or begin < 0 or begin + size > os.fstat(descriptor).st_size:
        raise ValueError("it is cut off")
    return os.pread(descriptor, size, begin)


def _write(descriptor: int, content: bytes | memoryview, begin: int) -> None:
    rest = memoryview(content)
    while rest.nbytes:
        written = os.pwrite(descriptor, rest, begin)
        rest, begin = rest[written:], begin + written
