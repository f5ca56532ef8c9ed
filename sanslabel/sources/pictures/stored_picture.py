"""Pictures as files store them. Pillow decodes, tifffile where Pillow cannot, and the files are not trusted."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import ExifTags, Image, JpegImagePlugin, UnidentifiedImageError

from sanslabel.errors import SanslabelError
from sanslabel.sources.pictures import tiff
from sanslabel.sources.stores.store import Unreadable, open_regular

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""formats that are decoded; every further decoder of Pillow is one more that a malicious file can reach"""
PIXELS = 128_000_000
"""most pixels that are decoded: they take 512 MB with four bytes each. Pictures of more are refused before they take
memory, but see `_reducible`."""
LARGEST_JPEG = 8 * PIXELS
"""most pixels of a JPEG that is decoded at reduced size"""
LARGEST = 4 * PIXELS
"""largest file in bytes: the size of so many uncompressed pixels with four channels"""
PAGES = 100
"""pages of a file up to which they are counted"""

_LOW = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
"""order of bytes in which Pillow's reader of the high bytes of 16 bits reads the low ones"""

File = Path | Callable[[], BinaryIO]
"""a path, or a function that opens a file"""


class Header(NamedTuple):
    """Facts that a file states about its picture, before any pixel is decoded."""

    size: tuple[int, int]
    """width and height in pixels"""
    channels: int
    """number of channels: 1 for gray, 3 for color, whatever the file's own model of color; transparency does not
    count"""
    deep: bool
    """True for more than 8 bits a channel"""
    unread: int
    """pages of a TIFF file that are no channels of its first picture, counted up to 100"""
    others: str
    """content of the unread pages, such as "12 slices"; "" if there are none, or if the file does not state it"""


class Planes(NamedTuple):
    """Pixels in the file's own numbers."""

    channels: np.ndarray
    """(C, H, W), of any real dtype"""
    alpha: np.ndarray | None = None
    """(H, W) uint8, 0 for transparent pixels"""


def stored_pixels(file: File) -> np.ndarray | None:
    """Returns the pixels (C, H, W) in the file's own numbers, for a file of more than 8 bits or of other channels than
    gray and color; None for other files. Raises Unreadable."""
    with open_image(file) as (content, image):
        planes = planes_of(content, image)
        return None if planes is None else planes.channels


def header(file: File) -> Header:
    """Returns the facts that the header of a file states about its picture. Raises Unreadable."""
    with open_image(file) as (content, image):
        size, stack = (image.width, image.height), _stack(image)
        if isinstance(image, tiff.Page):
            channels, deep = image.samples * stack.channels, image.dtype != np.uint8
            pages = tiff.count_pages(content, PAGES)
        else:
            channels, deep = channels_of(image) * stack.channels, _is_deep(image)
            pages = _count_pages(image) if image.format == "TIFF" else 1
        return Header(size, channels, deep, max(0, pages - stack.channels), stack.others)


def size(file: File) -> tuple[int, int]:
    """Returns width and height of an image in pixels, from the header of its file. Raises Unreadable."""
    with open_image(file) as (_, image):
        return image.width, image.height


@contextmanager
def open_image(file: File) -> Iterator[tuple[BinaryIO, Image.Image | tiff.Page]]:
    """Context manager that gives an open file and its image, or its first page if only tifffile can read it."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of large images and odd metadata; the size is checked here, and neither is the user's fault.
            warnings.simplefilter("ignore")
            with open_regular(file) if isinstance(file, Path) else file() as content:
                length = content.seek(0, os.SEEK_END)
                content.seek(0)
                if length > LARGEST:
                    raise Unreadable(f"{length:,} bytes, more than {LARGEST:,}")
                image = _image(content)
                with nullcontext() if isinstance(image, tiff.Page) else image:
                    if image.width * image.height > PIXELS and not _reducible(content, image):
                        raise too_large(image.width, image.height)
                    yield content, image
    except (Unreadable, SanslabelError):
        raise
    except Image.DecompressionBombError as error:  # its number of pixels is in parentheses
        count = int((re.search(r"\((\d{1,18}) ", str(error)) or ["", "0"])[1])
        raise Unreadable(f"{count:,} pixels, more than {PIXELS:,}; reduce the picture to use it") from None
    except UnidentifiedImageError:
        raise Unreadable("no JPEG, PNG, WebP, BMP, GIF or TIFF") from None
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error
    except Exception as error:  # decoders raise whatever a malformed file leads them into
        raise Unreadable(f"{type(error).__name__}: {error}") from error


def _image(content: BinaryIO) -> Image.Image | tiff.Page:
    """Returns the image in a file, or the first page of a TIFF file that Pillow cannot read, or reads wrongly."""
    magic = content.read(4)
    content.seek(0)
    try:
        image = Image.open(content, formats=FORMATS)
    except Image.DecompressionBombError:
        if magic[:3] != b"\xff\xd8\xff":
            raise
        content.seek(0)
        return JpegImagePlugin.JpegImageFile(content)  # without Pillow's limit; ours follows
    except UnidentifiedImageError:
        if magic not in tiff.MAGIC:
            raise
        return tiff.first_page(content)
    return tiff.first_page(content) if image.format == "TIFF" and _misread(image) else image


def too_large(width: int, height: int) -> Unreadable:
    """Returns the error for a picture of too many pixels."""
    return Unreadable(f"{width} x {height} pixels, more than {PIXELS:,}; reduce the picture to use it")


def _reducible(content: BinaryIO, image: Image.Image | tiff.Page) -> bool:
    """Returns True for a JPEG that can be decoded at an eighth of its size in little memory.

    This needs all channels in one scan. With several scans, as in progressive files, the decoder keeps every
    coefficient of the full picture in memory.
    """
    if isinstance(image, tiff.Page) or image.format != "JPEG" or image.width * image.height > LARGEST_JPEG:
        return False
    position, channels = content.tell(), 0
    content.seek(2)
    try:
        while len(head := content.read(4)) == 4 and head[0] == 0xFF:
            segment = content.read(int.from_bytes(head[2:], "big") - 2)
            if head[1] in (0xC0, 0xC1):  # the frame of a sequential JPEG
                channels = segment[5]
            if head[1] == 0xDA:  # the first scan
                return channels > 0 and segment[0] == channels
        return False
    finally:
        content.seek(position)


def _misread(image: Image.Image) -> bool:
    """Returns True for a TIFF of which Pillow would leave out channels, or read planes of 16 bits as 8 bits."""
    tags = vars(image)["tag_v2"]
    photometric, samples, planar = tags.get(262, 0), tags.get(277, 1), tags.get(284, 1)
    if photometric in (0, 1) and samples > 1:
        return image.mode != "LA" or tags.get(338) not in ((1,), (2,))
    return _raw_mode(image)[:5] == "RGBa;" or (planar == 2 and samples > 1 and max(tags.get(258, (1,))) > 8)


def channels_of(image: Image.Image) -> int:
    """Returns the number of channels of one page: 1 for gray, 3 for anything else."""
    if image.mode == "RGBA" and _raw_mode(image).startswith("LA"):
        return 1
    return 1 if image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I") else 3


def _is_deep(image: Image.Image) -> bool:
    return image.mode == "F" or image.mode.startswith("I") or _of_two_bytes(image)


def _of_two_bytes(image: Image.Image) -> bool:
    """Returns True for several channels of 16 bits, of which Pillow would decode the high bytes alone."""
    return image.mode in ("RGB", "RGBA") and ";16" in _raw_mode(image)


def _raw_mode(image: Image.Image) -> str:
    """Returns Pillow's name for the arrangement of the file's bytes."""
    tiles: Any = getattr(image, "tile", None)
    arguments = tiles[0].args if tiles else ""
    return str(arguments if isinstance(arguments, str) or not arguments else arguments[0])


def _stack(image: Image.Image | tiff.Page) -> tiff.Stack:
    """Returns the meaning of a file's pages; pages that have channels themselves are no channels."""
    if isinstance(image, tiff.Page):
        return tiff.stack(image.description) if image.samples == 1 else tiff.Stack()
    if image.format != "TIFF" or channels_of(image) > 1:
        return tiff.Stack()
    return tiff.stack(vars(image)["tag_v2"].get(270))


def _count_pages(image: Image.Image) -> int:
    """Returns the number of pages, up to 100. The image is then at another page."""
    for page in range(1, PAGES):
        try:
            image.seek(page)
        except EOFError:
            return page
    return PAGES


def planes_of(content: BinaryIO, image: Image.Image | tiff.Page) -> Planes | None:
    """Returns the pixels in the file's own numbers; None for gray and color of 8 bits, which Pillow converts."""
    stack = _stack(image)
    if isinstance(image, tiff.Page):
        return Planes(_native(tiff.read_pages(content, image, stack.pages, LARGEST)))
    if _of_two_bytes(image):
        return _two_bytes(content, image)
    if stack.channels == 1 and not _is_deep(image):
        return None
    if stack.channels > tiff.MOST_CHANNELS or stack.channels * image.width * image.height > LARGEST // 2:
        raise Unreadable(f"{stack.channels} channels of {image.width} x {image.height} pixels; reduce it")
    pages: list[np.ndarray] = []
    kind = image.mode, image.size
    for number in stack.pages:
        try:
            if number:
                image.seek(number)
        except EOFError:
            raise Unreadable(f"announces {stack.channels} channels and has {number} pages; save it again") from None
        if (image.mode, image.size) != kind:
            raise Unreadable("its pages differ in size or kind")
        image.load()
        pages.append(_native(np.array(image if image.mode != "1" else image.convert("L"))))
    return Planes(np.stack(pages) if len(pages) > 1 else pages[0][None])


def _two_bytes(content: BinaryIO, image: Image.Image) -> Planes:
    """Returns all 16 bits of gray with transparency, or of color.

    Pillow has no such modes, and decodes the high byte of each sample. Read in the other order of bytes, it decodes the
    low ones. For gray with transparency, the four bytes of a pixel are read as four channels.
    """
    mode = _raw_mode(image)
    if mode.startswith("LA"):
        samples = _decoded_as(image, "RGBA").view(">u2").astype(np.uint16)
    else:
        high = _decoded_as(image, mode)
        content.seek(0)
        with Image.open(content, formats=FORMATS) as again:
            low = _decoded_as(again, mode[:-1] + _LOW[mode[-1]])
        samples = high.astype(np.uint16) << 8 | low
    channels = samples.transpose(2, 0, 1)
    if len(channels) in (2, 4):
        return Planes(channels[:-1], (channels[-1] >> 8).astype(np.uint8))
    return Planes(channels)


def _native(pixels: np.ndarray) -> np.ndarray:
    """Returns the pixels in the machine's order of bytes."""
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _decoded_as(image: Image.Image, raw_mode: str) -> np.ndarray:
    """Returns the decoded image with its bytes in another arrangement, (H, W, C) uint8."""
    file: Any = image
    file.tile = [
        tile._replace(args=raw_mode if isinstance(tile.args, str) else (raw_mode, *tile.args[1:])) for tile in file.tile
    ]
    image.load()
    return np.array(image)


def orientation(image: Image.Image | tiff.Page) -> int:
    """Returns the EXIF orientation of a loaded image. The image must be loaded before, since Pillow turns TIFFs upright
    while it loads them."""
    if isinstance(image, tiff.Page):
        return image.orientation
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # malformed metadata do not spoil the pixels
        return 1
