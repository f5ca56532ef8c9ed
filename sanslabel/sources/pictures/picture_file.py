"""Decoded pictures one after the other in one file, with a table of their places.

The file is read at positions rather than mapped. If the disk fails or the file is truncated, access to a mapped page
ends the process with a signal. A read only raises an error, and the picture is decoded instead. For 64 pictures of
256 x 341, reading takes 6 ms, mapping 2 ms, and decoding 100 ms.
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
"""columns: the offset in bytes or one of the marks below, height and width in pixels, and the CRC-32 of the pixels"""
ABSENT, UNREADABLE = -1, -2

_FOOTER = struct.Struct("<16sQQQQ32s")
"""mark, channels, rows, bytes of pixels, bytes of reasons, SHA-256 of table and reasons"""
_MARK = b"sanslabel %06d" % FORMAT


class PictureFile:
    """A finished file of pictures. It is kept open, and closed when this object is deleted.

    Raises OSError or ValueError for a damaged file.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)
        end = os.fstat(descriptor).st_size - _FOOTER.size
        footer = _FOOTER.unpack(_read(descriptor, _FOOTER.size, end))
        mark, self.channels, count, self.size, reasons_size, digest = footer
        if mark != _MARK or end != self.size + count * TABLE.itemsize + reasons_size:
            raise ValueError("it is of another kind or cut off")
        table = _read(descriptor, count * TABLE.itemsize, self.size)
        reasons = _read(descriptor, reasons_size, end - reasons_size)
        if hashlib.sha256(table + reasons).digest() != digest:
            raise ValueError("its table is damaged")
        self.table = np.frombuffer(table, TABLE)
        self.reasons: dict[int, str] = {int(row): reason for row, reason in json.loads(reasons).items()}
        self.checked = np.zeros(count, bool)
        self.damaged = False

    def __len__(self) -> int:
        return len(self.table)

    def __reduce__(self) -> tuple[Any, ...]:
        from multiprocessing.reduction import DupFd  # absent on Windows

        return _received, (DupFd(self.descriptor),)

    @property
    def absent(self) -> int:
        """Returns the number of pictures that are not in the file and have to be decoded."""
        return int((self.table["offset"] == ABSENT).sum())

    @property
    def unfitting(self) -> int:
        """Returns the number of absent pictures for which there was no room."""
        return self.absent - sum(self.table["offset"][row] == ABSENT for row in self.reasons)

    def pixels(self, row: int) -> np.ndarray | None:
        """Returns a picture, (C, H, W) uint8, or None if it has to be decoded.

        A picture has to be decoded if it is absent, or if its bytes have changed since they were written. The first
        changed picture causes a warning. Raises Unreadable for a picture that could not be decoded.
        """
        offset, height, width, crc = self.table[row].item()
        if offset == UNREADABLE:
            raise Unreadable(self.reasons[row])
        if offset == ABSENT:
            return None
        pixels = np.empty((self.channels, height, width), np.uint8)
        try:
            intact = os.preadv(self.descriptor, [pixels.data], offset) == pixels.nbytes
            if intact and not self.checked[row]:
                self.checked[row] = intact = zlib.crc32(pixels.data) == crc
            reason = "" if intact else "pixels have changed"
        except OSError as error:
            reason = error.strerror or str(error)
        if reason and not self.damaged:
            self.damaged = True
            warnings.warn(f"a cache of pictures is damaged ({reason}); they are decoded instead", stacklevel=2)
        return None if reason else pixels


class PictureWriter:
    """A writer of pictures, and at the end their table, to a file."""

    def __init__(self, descriptor: int, count: int, channels: int) -> None:
        self.descriptor, self.channels, self.size = descriptor, channels, 0
        self.table = _absent(count)
        self.reasons: dict[int, str] = {}
        os.ftruncate(descriptor, 0)

    def append(self, index: list[int], pixels: memoryview, table: np.ndarray, reasons: Mapping[int, str]) -> None:
        """Writes the pictures of the rows `index`, one after the other in `pixels`. The table grows with the rows.

        Offsets in `table` count from the beginning of `pixels`. Raises OSError if the pictures cannot be written; then
        the file contains none of them.
        """
        try:
            _write(self.descriptor, pixels, self.size)
        except OSError:
            os.ftruncate(self.descriptor, self.size)
            raise
        if (more := max(index, default=-1) + 1 - len(self.table)) > 0:
            self.table = np.concatenate([self.table, _absent(max(more, len(self.table)))])
        moved = table.copy()
        moved["offset"][table["offset"] >= 0] += self.size
        self.table[index] = moved
        self.reasons |= reasons
        self.size += pixels.nbytes

    def finish(self, count: int | None = None) -> None:
        """Writes the table, or its first `count` rows, and waits until all is on the disk. Raises OSError."""
        self.table = self.table[:count]
        table, reasons = self.table.tobytes(), json.dumps(self.reasons).encode()
        digest = hashlib.sha256(table + reasons).digest()
        footer = _FOOTER.pack(_MARK, self.channels, len(self.table), self.size, len(reasons), digest)
        _write(self.descriptor, table + reasons + footer, self.size)
        os.fsync(self.descriptor)


def _absent(count: int) -> np.ndarray:
    table = np.zeros(count, TABLE)
    table["offset"] = ABSENT
    return table


def _received(shared: Any) -> PictureFile:
    """Returns the file in a worker process, opened from the parent's open file, which may no longer have a name."""
    return PictureFile(shared.detach())


def _read(descriptor: int, size: int, begin: int) -> bytes:
    if size < 0 or begin < 0 or begin + size > os.fstat(descriptor).st_size:
        raise ValueError("it is cut off")
    return os.pread(descriptor, size, begin)


def _write(descriptor: int, content: bytes | memoryview, begin: int) -> None:
    rest = memoryview(content)
    while rest.nbytes:
        written = os.pwrite(descriptor, rest, begin)
        rest, begin = rest[written:], begin + written
