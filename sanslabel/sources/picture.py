"""One image file -> pixels of bounded size. Pillow decodes; the files are not trusted."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISDIR, S_ISREG

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch.nn.functional import interpolate

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""allowed: every further decoder of Pillow is one more that a malicious file can reach"""
PIXELS = 128_000_000
"""above which a file is refused before it is decoded"""
LARGEST = 4 * PIXELS
"""bytes of a file: as many pixels take that, unpacked, with a fourth channel; metadata need not"""

VERSION = 2
"""of what is made of a file, for those who keep it: raised with every change of a pixel"""

_UPRIGHT = {
    2: (False, (2,)),
    3: (False, (1, 2)),
    4: (False, (1,)),
    5: (True, ()),
    6: (True, (2,)),
    7: (True, (1, 2)),
    8: (True, (1,)),
}
"""for each way to hold a camera: whether rows become columns, and the axes of (C, H, W) that are then turned round"""


class Unreadable(Exception):
    """A file that is not used, and why."""


def picture(path: Path, channels: int, side: int) -> np.ndarray:
    """(C, H, W) uint8 of the first frame, upright, grey for 1 channel and RGB for 3, transparent parts on white.

    A larger image is reduced until its shorter side is `side`, and what then exceeds twice that on the longer one is
    cut off at both ends; a smaller one stays as it is. Raises Unreadable.
    """
    with _opened(path) as image:
        # Of a JPEG only the needed frequencies are decoded: 2 megapixels to 256 in a fifth of the time. The result is
        # still at least `side` on its shorter side.
        image.draft("L" if channels == 1 else None, (side, side))
        image.load()
        turned, flipped = _UPRIGHT.get(_orientation(image), (False, ()))
        pixels = _bounded(_flat(image, "L" if channels == 1 else "RGB"), side)
    return np.flip(pixels.swapaxes(1, 2) if turned else pixels, flipped)


def size(path: Path) -> tuple[int, int]:
    """Width and height of an image in pixels, from the file's head. Raises Unreadable."""
    with _opened(path) as image:
        return image.size


def bounded(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Width and height that an image of this size is reduced to."""
    scale = min(1.0, side / min(size))
    width, height = (max(1, round(length * scale)) for length in _kept(size, side))
    return width, height


def _kept(size: tuple[int, int], side: int) -> tuple[int, int]:
    """What of width and height is not cut off."""
    longest = 2 * max(side, min(size))
    return min(size[0], longest), min(size[1], longest)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            # Pillow warns of large images and odd metadata; the size is checked here, and neither is the user's fault.
            warnings.simplefilter("ignore")
            status = path.stat()
            if not S_ISREG(status.st_mode):  # a pipe would be waited for, a device has no end
                raise Unreadable("Is a directory" if S_ISDIR(status.st_mode) else "no file but a device or a pipe")
            if status.st_size > LARGEST:
                raise Unreadable(f"{status.st_size:,} bytes, more than {LARGEST:,}")
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > PIXELS:
                    raise Unreadable(f"{image.width} x {image.height} pixels, more than {PIXELS:,}")
                yield image
    except Unreadable:
        raise
    except UnidentifiedImageError:
        raise Unreadable("no JPEG, PNG, WebP, BMP, GIF or TIFF") from None
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error
    except Exception as error:  # decoders raise whatever a malformed file leads them into
        raise Unreadable(f"{type(error).__name__}: {error}") from error


def _orientation(image: Image.Image) -> int:
    """How the camera was held, of a loaded image: TIFFs turn themselves upright while they load."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # malformed metadata do not make the pixels bad
        return 1


def _flat(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow would clip at 255; 65535 = 255 * 257
        return Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8)).convert(mode)
    if image.mode in ("I", "F"):
        raise Unreadable("32-bit pixels, whose range is not known; convert to 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == mode else image.convert(mode)


def _bounded(image: Image.Image, side: int) -> np.ndarray:
    """(C, H, W) uint8. torch reduces a photo of 500 x 375 to 256 in 0.44 ms, Pillow in 1.32, to the same pixels but for
    two in a thousand, which differ by one level."""
    kept, (width, height) = _kept(image.size, side), bounded(image.size, side)
    if kept != image.size:
        left, top = (image.width - kept[0]) // 2, (image.height - kept[1]) // 2
        image = image.crop((left, top, left + kept[0], top + kept[1]))
    pixels = np.asarray(image).reshape(*image.size[::-1], -1).transpose(2, 0, 1)
    if (width, height) == image.size:
        return pixels
    return interpolate(torch.from_numpy(pixels)[None], (height, width), mode="bilinear", antialias=True)[0].numpy()
