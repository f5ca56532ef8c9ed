"""TIFF files: which pages are channels of one picture, and samples that Pillow cannot read."""

from __future__ import annotations

import logging
import re
import zlib
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from sanslabel.sources.stores.store import Unreadable

INSTALL = 'pip install "sanslabel[tiff]"'
DEFLATE = (8, 32946)
"""the only compression that is unpacked here; each further decoder is one more that a malicious file can reach"""
MOST_CHANNELS = 1024
MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""beginnings of TIFF files and of BigTIFF files"""
_DESCRIPTION = 1 << 16
"""characters of a description that are searched"""
_PIECE = 1 << 20
"""bytes that are unpacked at a time"""


class Stack(NamedTuple):
    """Pages that together are one picture, or several."""

    channels: int = 1
    """pages that are the channels of the first picture"""
    stride: int = 1
    """pages from one channel to the next"""
    others: str = ""
    """content of further pages, such as "12 slices"; "" if there are none, or if the file does not state it"""

    @property
    def pages(self) -> list[int]:
        """Returns the pages of the first picture's channels."""
        return [channel * self.stride for channel in range(self.channels)]


def stack(description: object) -> Stack:
    """Returns the meaning of a file's pages from its description by ImageJ or OME. Other files have no channels on
    pages of their own."""
    text = description[:_DESCRIPTION] if isinstance(description, str) else ""
    if text.startswith("ImageJ="):
        fields = dict(re.findall(r"^(channels|slices|frames)=(\d{1,6})\s*$", text, re.MULTILINE))
        return _stack(*(int(fields.get(name, 1)) for name in ("channels", "slices", "frames")), order="CZT")
    if pixels := re.search(r"<(?:\w+:)?Pixels\s[^>]*>", text):
        fields = dict(re.findall(r'(SizeC|SizeZ|SizeT)="(\d{1,6})"', pixels[0]))
        order = re.search(r'DimensionOrder="XY([CZT]{3})"', pixels[0])
        sizes = (int(fields.get(name, 1)) for name in ("SizeC", "SizeZ", "SizeT"))
        return _stack(*sizes, order=order[1] if order else "CZT")
    return Stack()


def _stack(channels: int, slices: int, frames: int, order: str) -> Stack:
    """Returns the stack of so many channels, slices and frames, whose pages count in this order, the first fastest."""
    sizes, stride = {"C": channels, "Z": slices, "T": frames}, 1
    for axis in order.partition("C")[0]:
        stride *= sizes[axis]
    counts = ((slices, "slices"), (frames, "points in time"))
    return Stack(max(1, channels), max(1, stride), " and ".join(f"{n:,} {noun}" for n, noun in counts if n > 1))


class Page(NamedTuple):
    """A page of a TIFF file that Pillow cannot read."""

    width: int
    height: int
    samples: int
    """interleaved or planar channels"""
    dtype: np.dtype
    description: str
    orientation: int
    """EXIF's number, 1 for upright"""


def first_page(content: BinaryIO) -> Page:
    """Returns the first page's shape. Raises Unreadable if tifffile is not installed, or for other kinds of samples."""
    with _open_tiff(content) as file:
        return _page(file.pages[0])


def count_pages(content: BinaryIO, most: int) -> int:
    """Returns the number of pages, counted up to `most`. Raises Unreadable."""
    with _open_tiff(content) as file:
        for number in range(1, most):
            try:
                file.pages[number]
            except IndexError:
                return number
    return most


def read_pages(content: BinaryIO, first: Page, pages: Sequence[int], most_bytes: int) -> np.ndarray:
    """Returns the samples of pages as channels, (C, H, W), in their own dtype. Raises Unreadable, before memory is
    taken, if they take more than `most_bytes`."""
    with _open_tiff(content) as file:
        size = first.width * first.height * first.samples * first.dtype.itemsize * len(pages)
        if size > most_bytes:
            raise Unreadable(f"its pixels take {size:,} bytes, more than {most_bytes:,}; reduce it")
        for number in pages:
            _check_packed(content, file.pages[number], most_bytes)
        channels = [_channels(file.pages[number], first) for number in pages]
    return np.concatenate(channels) if len(channels) > 1 else channels[0]


def _open_tiff(content: BinaryIO) -> Any:
    """Returns a context manager of the file, read by tifffile. Raises Unreadable if that is not installed."""
    try:
        import tifffile
    except ImportError:
        raise Unreadable(f"this kind of TIFF is read with tifffile; install it by {INSTALL}") from None
    logger = logging.getLogger("tifffile")
    if not logger.handlers:  # its notes on odd files would appear between the lines of a run
        logger.addHandler(logging.NullHandler())
    content.seek(0)
    return tifffile.TiffFile(content)


def _page(page: Any) -> Page:
    samples, dtype = int(page.samplesperpixel), page.dtype
    if dtype is None or dtype.kind not in "uif" or page.imagedepth != 1 or not 1 <= samples <= MOST_CHANNELS:
        raise Unreadable(f"a TIFF with {samples} samples a pixel of kind {dtype}; convert it to 8 or 16 bits")
    if int(page.compression) not in (1, *DEFLATE):
        name = getattr(page.compression, "name", page.compression)
        raise Unreadable(f"a TIFF of this kind compressed with {name}; save it without compression")
    orientation = page.tags.get(274)
    return Page(
        int(page.imagewidth),
        int(page.imagelength),
        samples,
        np.dtype(dtype),
        str(page.description),
        int(orientation.value) if orientation is not None else 1,
    )


def _check_packed(content: BinaryIO, page: Any, most_bytes: int) -> None:
    """Raises Unreadable if compressed pixels unpack to more than `most_bytes`, without keeping what they unpack to."""
    if int(page.compression) not in DEFLATE:
        return
    left = most_bytes
    for offset, size in zip(page.dataoffsets, page.databytecounts, strict=True):
        content.seek(offset)
        unpacker, packed = zlib.decompressobj(), content.read(size)
        while packed and left >= 0 and not unpacker.eof:
            left -= len(unpacker.decompress(packed, _PIECE))
            packed = unpacker.unconsumed_tail
    if left < 0:
        raise Unreadable(f"its pixels unpack to more than {most_bytes:,} bytes; reduce it")


def _channels(page: Any, first: Page) -> np.ndarray:
    """Returns the samples of one page, (samples, H, W). Raises Unreadable if it differs from the first page."""
    if _page(page)[:4] != first[:4]:
        raise Unreadable("its pages differ in size or kind")
    array = page.asarray(maxworkers=1)
    shape = (first.samples, first.height, first.width)
    if page.samplesperpixel > 1 and int(page.planarconfig) == 1:
        return array.reshape(first.height, first.width, first.samples).transpose(2, 0, 1)
    return array.reshape(shape)
