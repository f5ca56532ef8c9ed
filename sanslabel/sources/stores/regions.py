"""Regions of pictures as a store: each is handed out as the file of a picture of its own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from sanslabel.sources.pictures.stored_picture import PIXELS, open_image, too_large
from sanslabel.sources.stores.store import Store, Unreadable

KEPT = 1 << 24
"""most pixels of a frame that is kept, so that its other boxes do not decode it again"""
MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
"""Pillow's names for pixels that a PNG file has room for; others become RGB"""


@dataclass(frozen=True, eq=False)
class Regions:
    """Regions of the pictures in another store, such as the boxes of objects with what surrounds them."""

    frames: Store
    names: list[str]
    frame: np.ndarray
    """(N,) int64, the picture of each region, by its place in `frames`"""
    corners: np.ndarray
    """(N, 4) int64, left, top, right and bottom in pixels of the upright picture"""

    @property
    def location(self) -> Path:
        return self.frames.location

    @property
    def side(self) -> int | None:
        return self.frames.side

    @property
    def fingerprint(self) -> str:
        """Returns a SHA-256 of the frames and of all boxes. It does not depend on the decoder of the frames."""
        names = os.fsencode("\0".join(self.names))
        return hashlib.sha256(self.frames.fingerprint.encode() + names + self.corners.tobytes()).hexdigest()

    def name_of(self, path: str) -> str | None:
        return self.frames.name_of(path)

    def open(self, index: int) -> BinaryIO:
        """Returns the region as a PNG file. Raises OSError or Unreadable, as for a picture that a box lies outside
        of."""
        row, corners = int(self.frame[index]), tuple(self.corners[index].tolist())
        picture = _upright(self.frames, row)
        if picture.width * picture.height > KEPT:
            _upright.cache_clear()
        left, top, right, bottom = corners
        right, bottom = min(right, picture.width), min(bottom, picture.height)
        if left >= right or top >= bottom:
            raise Unreadable(f"a box outside of its picture of {picture.width} x {picture.height} pixels")
        file = BytesIO()
        picture.crop((left, top, right, bottom)).save(file, "PNG", compress_level=0)
        file.seek(0)
        return file

    @property
    def first_status(self) -> np.ndarray:
        return self._first_status

    @cached_property
    def _first_status(self) -> np.ndarray:
        return self.frames.first_status[self.frame]

    def place(self, index: int) -> tuple[int, int]:
        return self.frames.place(int(self.frame[index]))

    def is_link(self, index: int) -> bool:
        return self.frames.is_link(int(self.frame[index]))

    def status(self, begin: int = 0, end: int | None = None) -> np.ndarray:
        """Returns sizes and times of the files of frames, (n, 3) int64, see `Store.status`."""
        frame, inverse = np.unique(self.frame[begin:end], return_inverse=True)
        return self.frames.subset(frame.tolist()).status()[inverse]

    def subset(self, index: Sequence[int]) -> Regions:
        chosen = np.array(index, np.int64)
        return Regions(self.frames, [self.names[row] for row in index], self.frame[chosen], self.corners[chosen])

    def __reduce__(self) -> tuple[type, tuple[Store, list[str], np.ndarray, np.ndarray]]:
        return Regions, (self.frames, self.names, self.frame, self.corners)  # worker processes need no status


@lru_cache(maxsize=1)
def _upright(frames: Store, row: int) -> Image.Image:
    """Returns a decoded picture, upright. The last one is kept, since the boxes of a frame follow each other."""
    with open_image(partial(frames.open, row)) as (_, image):
        if not isinstance(image, Image.Image):
            raise Unreadable("a TIFF that only tifffile reads, and boxes are cut from ordinary pictures; convert it")
        if image.width * image.height > PIXELS:
            raise too_large(image.width, image.height)
        image.load()
        if image.has_transparency_data:
            image = image.convert("RGBA")
        elif image.mode not in MODES:
            image = image.convert("RGB")
        return ImageOps.exif_transpose(image)
