"""Headers of tar archives, read one by one without extracting anything.

The formats are ustar, pax (POSIX.1-2001) and GNU's, as far as they state where the bytes of a member lie. Python's
tarfile makes an object for each member, which takes 7 times as long and 2 KB of memory each.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import NamedTuple

BLOCK = 512
READ = os.O_RDONLY | getattr(os, "O_BINARY", 0)
"""flags to open an archive with"""
LONGEST = 1 << 20
"""most bytes of a long name or of extended attributes"""
_FILE, _GNU_NAME, _GNU_LINK, _PAX, _PAX_GLOBAL, _SPARSE = (b"0", b"\0", b"7"), b"L", b"K", b"x", b"g", b"S"
_LOCK = threading.Lock()
_WITHOUT_DATA = b"123456"
"""types of hard link, link, character device, block device, folder and pipe: their size counts no bytes that follow"""


if hasattr(os, "pread"):
    read_at = os.pread
else:  # on Windows

    def read_at(descriptor: int, size: int, offset: int, /) -> bytes:
        """Returns the bytes of a file at an offset, fewer at its end."""
        with _LOCK:
            os.lseek(descriptor, offset, os.SEEK_SET)
            return os.read(descriptor, size)


class Member(NamedTuple):
    """A member of an archive."""

    name: str
    offset: int
    """position of its content in the archive, in bytes"""
    size: int
    is_file: bool
    """False for links, devices, folders and whatever else is no ordinary file"""


class Damaged(Exception):
    """An error for a file that is cut off, damaged or not an archive, with the reason."""


def members(descriptor: int) -> Iterator[Member]:
    """Yields the members of an open archive.

    Raises Damaged for a file that is cut off within a member, has a damaged header, or is not an archive. A missing
    mark at the end of the archive is not an error.
    """
    end, position = os.fstat(descriptor).st_size, 0
    name: str | None = None
    size: int | None = None
    while position < end:
        header = read_at(descriptor, BLOCK, position)
        if header.count(0) == BLOCK:
            return
        if len(header) < BLOCK:
            raise Damaged("it ends within a header")
        _check_sum(header, position)
        kind, length, content = header[156:157], _number(header[124:136], position), position + BLOCK
        if kind in (_GNU_NAME, _GNU_LINK, _PAX, _PAX_GLOBAL):
            if length > LONGEST:
                raise Damaged(f"a name of {length:,} bytes at byte {position:,}")
            described = read_at(descriptor, length, content)
            if len(described) < length:
                raise Damaged("it ends within a name")
            if kind == _GNU_NAME:
                name = _text(described)
            elif kind == _PAX:
                attributes = _attributes(described, position)
                name = _text(attributes["path"]) if "path" in attributes else name
                size = _decimal(attributes["size"], position) if "size" in attributes else size
            position = content + _padded(length)
            continue
        if kind == _SPARSE:  # for a file with holes, blocks with their places may precede the content
            more = header[482]
            while more and content < end:
                more, content = read_at(descriptor, BLOCK, content).ljust(BLOCK, b"\0")[504], content + BLOCK
        length = length if size is None else size
        called = _name(header) if name is None else name
        is_file = kind in _FILE and not called.endswith("/")
        length = 0 if kind in _WITHOUT_DATA else length
        if content + length > end:
            raise Damaged(f"{called} ends at byte {content + length:,} of {end:,}")
        yield Member(called, content, length, is_file)
        name = size = None
        position = content + _padded(length)


def _check_sum(header: bytes, position: int) -> None:
    """Raises Damaged unless the header states the sum of its bytes, signed or unsigned."""
    try:
        stated = int(header[148:156].strip(b" \0") or b"-1", 8)
    except ValueError:
        stated = -1
    total = sum(header) - sum(header[148:156]) + 8 * 32
    if stated != total and stated != total - 256 * sum(byte > 127 for byte in header[:148] + header[156:]):
        raise Damaged(f"no header at byte {position:,}" if position else "it is no tar archive")


def _number(field: bytes, position: int) -> int:
    """Returns a number that is stored in octal digits, or in binary if the first bit is set."""
    if field[0] & 0x80:
        number = int.from_bytes(field, "big") - (0x80 << 8 * (len(field) - 1))
        if field[0] != 0x80 or number >= 1 << 62:
            raise Damaged(f"a size that is no number at byte {position:,}")
        return number
    digits = field.partition(b"\0")[0].strip()
    if digits.strip(b"01234567"):
        raise Damaged(f"a size that is no number at byte {position:,}")
    return int(digits or b"0", 8)


def _name(header: bytes) -> str:
    name = _text(header[:100])
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(content: bytes) -> str:
    return os.fsdecode(content.partition(b"\0")[0])


def _attributes(content: bytes, position: int) -> dict[str, bytes]:
    """Returns the records "length key=value\\n" of extended attributes."""
    attributes = {}
    while content:
        length, space, _ = content.partition(b" ")
        if not space or not length.isdigit() or len(length) > 7 or not len(length) + 2 < int(length) <= len(content):
            raise Damaged(f"extended attributes at byte {position:,}")
        key, _, value = content[len(length) + 1 : int(length) - 1].partition(b"=")
        attributes[key.decode(errors="replace")] = value
        content = content[int(length) :]
    return attributes


def _decimal(value: bytes, position: int) -> int:
    if not value.isdigit() or len(value) > 18:
        raise Damaged(f"a size that is no number at byte {position:,}")
    return int(value)


def _padded(length: int) -> int:
    return -(-length // BLOCK) * BLOCK
