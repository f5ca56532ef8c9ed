"""A look at a fixed sample of the files, which decides the size, the channels and the levels of all pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from statistics import median
from typing import NamedTuple

import numpy as np

from sanslabel.errors import BadInput
from sanslabel.randomness import permutation
from sanslabel.sources.pictures.channels import conversion_advice, converted_remark, with_channels
from sanslabel.sources.pictures.levels import PERCENTILES, Levels, described, measured_levels
from sanslabel.sources.pictures.picture import picture
from sanslabel.sources.pictures.stored_picture import PAGES, Header, header, stored_pixels
from sanslabel.sources.source import Wanted
from sanslabel.sources.stores.store import Store, Unreadable

LARGEST_DEFAULT = 224
"""largest side in pixels to train at, if a run requests no size"""
SURVEYED = 64
"""number of files in the sample"""
_MEASURED = 1 << 18
"""numbers of one file that levels are measured on"""


class Survey(NamedTuple):
    """Facts about pictures that a sample of the files has decided."""

    side: int
    """side in pixels to train at"""
    channels: int
    levels: Levels | None
    """the levels that more than 8 bits are scaled to; None if no file of the sample has more"""
    remarks: tuple[str, ...]
    """sentences on channels, pages and levels"""


class _Looked(NamedTuple):
    """Facts about one file of the sample."""

    row: int
    header: Header
    channels: int
    """channels to read: 1 for a color file whose pixels are all gray"""
    pixels: np.ndarray | None
    """some pixels of more than 8 bits, (C, n) in the file's own numbers; None for 8 bits"""


def survey(store: Store, wanted: Wanted) -> Survey:
    """Returns a side to train at, a number of channels, and levels that fit a fixed sample of the files.

    Values of `wanted` take precedence. The side is the median of the shorter sides, but at most 224. From 32 on, it is
    rounded down to a multiple of 8. There is 1 channel if no image has color, otherwise 3, or another number that all
    files of the sample have. Raises BadInput if no file of the sample can be read, if they have different numbers of
    channels, or if these cannot be converted to the wanted number.
    """
    looked, reasons = [], []
    for row in permutation(0, len(store.names))[:SURVEYED].tolist():
        try:
            looked.append(_look(store, row, wanted))
        except Unreadable as error:
            reasons.append(f"{store.names[row]}: {error}")
    if not looked:
        raise BadInput(f"{store.location}: none of the {len(reasons)} images looked at can be read ({reasons[0]}).")
    channels = wanted.channels or _channels(store, looked)
    if unfit := {file.header.channels for file in looked} - {channels, *({1, 3} if channels in (1, 3) else ())}:
        raise BadInput(conversion_advice(str(store.location), channels, max(unfit)))
    side = wanted.image_size or default_side([min(file.header.size) for file in looked])
    levels = wanted.levels or _levels(store, looked, channels)
    return Survey(side, channels, levels, tuple(_remarks(looked, channels, levels, wanted)))


def _look(store: Store, row: int, wanted: Wanted) -> _Looked:
    file = partial(store.open, row)
    stated = header(file)
    if stated.deep or stated.channels not in (1, 3):
        stored = stored_pixels(file)
        assert stored is not None
        channels = 1 if stated.channels == 3 and bool((stored == stored[:1]).all()) else stated.channels
        flat = stored.reshape(len(stored), -1)
        some = flat[:, :: max(1, flat.size // _MEASURED)].copy()
        return _Looked(row, stated, channels, some if stated.deep else None)
    if wanted.channels is not None and wanted.image_size is not None:
        return _Looked(row, stated, stated.channels, None)  # no pixel of it decides anything
    pixels = picture(file, 3, SURVEYED)
    return _Looked(row, stated, 3 if bool((pixels != pixels[:1]).any()) else 1, None)


def _channels(store: Store, looked: Sequence[_Looked]) -> int:
    """Returns the number of channels to read. Raises BadInput for files of different numbers."""
    kinds = {file.header.channels: store.names[file.row] for file in looked}
    if kinds.keys() <= {1, 3}:
        return max(file.channels for file in looked)
    if len(kinds) > 1:
        examples = " and ".join(f"{name} has {count}" for count, name in sorted(kinds.items())[:2])
        raise BadInput(f"{store.location}: images have different numbers of channels ({examples}); separate them.")
    return next(iter(kinds))


def default_side(lengths: Sequence[float]) -> int:
    """Returns the side in pixels to train at for pictures with these shorter sides."""
    side = min(LARGEST_DEFAULT, int(median(lengths)))
    return side // 8 * 8 if side >= 32 else side


def _levels(store: Store, looked: Sequence[_Looked], channels: int) -> Levels | None:
    """Returns the levels of each channel, or None if all files have 8 bits. Raises BadInput if some files have whole
    numbers and others fractions, which share no levels."""
    deep = [file for file in looked if file.pixels is not None]
    if not deep:
        return None
    kinds = {file.pixels.dtype: store.names[file.row] for file in deep if file.pixels is not None}
    if len(kinds) > 1:
        examples = " and ".join(f"{name} has {dtype}" for dtype, name in list(kinds.items())[:2])
        raise BadInput(f"{store.location}: images have different kinds of numbers ({examples}); separate them.")
    samples = [with_channels(file.pixels[..., None], channels) for file in deep if file.pixels is not None]
    return measured_levels(
        [pixels[..., 0] for pixels in samples if pixels is not None], among_8_bits=len(deep) < len(looked)
    )


def _remarks(looked: Sequence[_Looked], channels: int, levels: Levels | None, wanted: Wanted) -> list[str]:
    """Returns sentences on the channels, the pages and the levels of the files."""
    sentences = []
    if wanted.channels is not None and all(file.header.channels != channels for file in looked):
        sentences.append(converted_remark(4 - channels))
    if channels not in (1, 3):
        sentences.append(f"Each picture has {channels} channels; changes of hue and saturation are left out.")
    sentences += _on_pages([file.header for file in looked])
    if any(file.header.deep for file in looked) and levels is not None:
        how = "as in training" if wanted.levels else _how(looked)
        sentences.append(f"Pixels of more than 8 bits are scaled {how}. From black to white: {described(levels)}.")
    return sentences


def _how(looked: Sequence[_Looked]) -> str:
    deep = sum(file.pixels is not None for file in looked)
    if deep < len(looked):
        return f"by their depth, since {len(looked) - deep} of {len(looked)} pictures looked at have 8 bits"
    low, high = PERCENTILES
    return f"by the percentiles {low} and {high} of {deep} pictures"


def _on_pages(headers: Sequence[Header]) -> list[str]:
    """Returns sentences on files with further pages, which are not read."""
    sentences = []
    stated = Counter(header.others for header in headers if header.others)
    if stated:
        count, (others, _) = sum(stated.values()), stated.most_common(1)[0]
        sentences.append(f"{count} of {len(headers)} files looked at have {others}; the first is read.")
    pages = [header.unread + 1 for header in headers if header.unread and not header.others]
    if pages:
        most = f"{PAGES} or more" if max(pages) >= PAGES else str(max(pages))
        several = (
            f"Each has {most} pages"
            if len(pages) == len(headers) == pages.count(max(pages))
            else (f"{len(pages)} of {len(headers)} files looked at have several pages, up to {most}")
        )
        sentences.append(f"{several}; the first is read. Pages that are channels need ImageJ's or OME's description.")
    return sentences
