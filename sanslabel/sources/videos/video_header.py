"""The counts and sizes that an MP4 file announces, read before FFmpeg reserves memory for them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from sanslabel.sources.stores.store import Unreadable

CONTAINERS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"mvex", b"edts"})
"""boxes that hold boxes"""
FIRST = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp"})
"""the kinds of box that a file may begin with"""
DEPTH, BOXES = 8, 1 << 16
"""most boxes within each other, and most boxes in all"""


def check_counts(path: Path, frames: int, longest: int, pixels: int) -> None:
    """Raises Unreadable if an MP4 or QuickTime file announces more samples than it has bytes, or more than `frames`
    frames. The same holds for frames with a side above `longest`, or with more than `pixels` pixels. Other files
    pass."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < 8 or file.read(8)[4:] not in FIRST:
            return
        is_video = False
        for kind, begin, end in _boxes(file, 0, size, 0, [BOXES]):
            file.seek(begin)
            content = file.read(min(end - begin, 44))
            if kind == b"hdlr":
                is_video = content[8:12] == b"vide"
            if kind == b"stsd" and is_video and len(content) == 44:
                width, height = (int.from_bytes(content[at : at + 2], "big") for at in (40, 42))
                if max(width, height) > longest or width * height > pixels:
                    raise Unreadable(f"its frames of {width:,} x {height:,} pixels are too large to decode")
            if kind in (b"stsz", b"trun"):
                count_at = 8 if kind == b"stsz" else 4
                count = int.from_bytes(content[count_at : count_at + 4], "big")
                size_of_one = max(1, int.from_bytes(content[4:8], "big")) if kind == b"stsz" else 1
                if count * size_of_one > size or (is_video and count > frames):
                    raise Unreadable(f"it announces {count:,} frames or samples in {size:,} bytes")


def _boxes(file: BinaryIO, begin: int, end: int, depth: int, left: list[int]) -> Iterator[tuple[bytes, int, int]]:
    """Yields the kind, begin and end of the content of each box, and of the boxes in it."""
    while begin + 8 <= end and left[0]:
        left[0] -= 1
        file.seek(begin)
        head = file.read(16)
        length, kind, content = int.from_bytes(head[:4], "big"), head[4:8], begin + 8
        if length == 1:
            length, content = int.from_bytes(head[8:16], "big"), begin + 16
        if length == 0:
            length = end - begin
        if length < content - begin:
            return
        stop = min(end, begin + length)
        yield kind, content, stop
        if kind in CONTAINERS and depth < DEPTH:
            yield from _boxes(file, content, stop, depth + 1, left)
        begin = stop
