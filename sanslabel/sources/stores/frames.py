"""Frames of videos as a store. They lie in a file of decoded pictures, and are read as uncompressed bitmaps."""

from __future__ import annotations

import hashlib
import io
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from sanslabel.sources.pictures.picture_file import PictureFile
from sanslabel.sources.stores.files import Files
from sanslabel.sources.stores.store import Unreadable

_HEADER = struct.Struct("<2sIHHIIiiHHIIiiII")
"""the header of a bitmap file: its size, the offset of its pixels, width, height, bits of a pixel and colors"""
_GRAYS = np.repeat(np.arange(256, dtype=np.uint8), 4).reshape(256, 4)
_GRAYS[:, 3] = 0


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames of videos, named by the video and the time: film.mp4#t=12.500."""

    videos: Files
    names: list[str]
    video: np.ndarray
    """(N,) int64, the video of each frame"""
    time: np.ndarray
    """(N,) float64, seconds from the start of the video"""
    row: np.ndarray
    """(N,) int64, the frame's row in the file of decoded frames"""
    pictures: PictureFile
    side: int
    """pixels to which the shorter side of larger frames is reduced"""

    @property
    def location(self) -> Path:
        return self.videos.location

    @property
    def first_status(self) -> np.ndarray:
        return self.videos.first_status[self.video]

    @property
    def fingerprint(self) -> str:
        """Returns a SHA-256 of the videos, see `fingerprint_of`, and of the times of these frames."""
        content = os.fsencode("\0".join((self.videos.fingerprint, *self.names)))
        return hashlib.sha256(content).hexdigest()

    def name_of(self, path: str) -> str | None:
        return self.videos.name_of(path)

    def place(self, index: int) -> tuple[int, int]:
        raise Unreadable("frames of a video have no place of their own on disk")

    def is_link(self, index: int) -> bool:
        return self.videos.is_link(int(self.video[index]))

    def open(self, index: int) -> BinaryIO:
        """Returns a frame as a bitmap. If the file of decoded frames is damaged, it is decoded again."""
        pixels = self.pictures.pixels(int(self.row[index]))
        if pixels is None:
            from sanslabel.sources.videos.video_file import frame_at

            path = self.location / self.videos.names[self.video[index]]
            pixels = frame_at(path, float(self.time[index])).pixels(self.pictures.channels, self.side)
        return io.BytesIO(bitmap(pixels))

    def status(self, begin: int = 0, end: int | None = None) -> np.ndarray:
        return self.videos.status()[self.video[begin:end]]

    def subset(self, index: Sequence[int]) -> Frames:
        chosen = np.array(index, np.int64)
        return replace(
            self,
            names=[self.names[row] for row in index],
            video=self.video[chosen],
            time=self.time[chosen],
            row=self.row[chosen],
        )


def bitmap(pixels: np.ndarray) -> bytes:
    """Returns pixels (C, H, W) uint8, gray or RGB, as the content of a bitmap file, which is not compressed."""
    channels, height, width = pixels.shape
    lines = np.zeros((height, -(-width * channels // 4) * 4), np.uint8)  # lines are filled up to multiples of 4 bytes
    lines[:, : width * channels] = pixels[::-1].transpose(1, 2, 0).reshape(height, -1)  # blue comes first
    colors = _GRAYS.tobytes() if channels == 1 else b""
    offset, count = _HEADER.size + len(colors), 256 if channels == 1 else 0
    header = _HEADER.pack(
        b"BM", offset + lines.nbytes, 0, 0, offset, 40, width, -height, 1, 8 * channels, 0, lines.nbytes, 0, 0, count, 0
    )
    return header + colors + lines.tobytes()
