"""One image file -> pixels of bounded size. Pillow decodes; the files are not trusted."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISDIR, S_ISREG

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""allowed: every further decoder of Pillow is one more that a malicious file can reach"""
PIXELS = 128_000_000
"""above which a file is refused before it is decoded"""
LARGEST = 4 * PIXELS
"""bytes of a file: as many pixels take that, unpacked, with a fourth channel; metadata need not"""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Unreadable(Exception):
    """A file that is not used, and why."""


def picture(path: Path, channels: int, side: int) -> np.ndarray:
    """(C, H, W) uint8 of the first frame, upright, grey for 1 channel and RGB for 3, transparent parts on white.

    A larger image is reduced until its shorter side is `side`, and what then exceeds twice that on the longer one is
    cut off at both ends; a smaller one stays as it is. Raises Unreadable.
    """
    with _opened(path) as image:
        # Of a JPEG only the needed frequencies are decoded: 12 megapixels to 256 in a sixth of the time. The result is
        # still at least `side` on its shorter side.
        image.draft("L" if channels == 1 else None, (side, side))
        image.load()
        upright = _UPRIGHT.get(_orientation(image))
        flat = _bounded(_flat(image, "L" if channels == 1 else "RGB"), side)
        pixels = np.asarray(flat.transpose(upright) if upright is not None else flat)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def short_side(path: Path) -> int:
    """The shorter side of an image in pixels, from the file's head. Raises Unreadable."""
    with _opened(path) as image:
        return min(image.size)


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


def _bounded(image: Image.Image, side: int) -> Image.Image:
    scale = min(1.0, side / min(image.size))
    kept = [min(length, round(2 * side / scale)) for length in image.size]
    size = [max(1, round(length * scale)) for length in kept]
    left, top = [(length - rest) // 2 for length, rest in zip(image.size, kept, strict=True)]
    box = (left, top, left + kept[0], top + kept[1])
    if scale == 1.0:
        return image if box == (0, 0, *image.size) else image.crop(box)
    return image.resize((size[0], size[1]), Image.Resampling.BILINEAR, box, reducing_gap=2.0)
