"""Reads one sound: its file becomes a mono wave of 16,000 samples a second."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from functools import lru_cache
from itertools import chain
from math import ceil
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from sanslabel.errors import BadInput
from sanslabel.sources.stores.store import Unreadable

RATE = 16_000
"""samples of a wave in a second (Hz)"""
LOWEST, HIGHEST = 1_000, 768_000
"""bounds on the samples a second that a file may have"""
MOST_CHANNELS = 64
LONGEST = 12 * 3600
"""seconds that a file may take"""
BLOCK = 1 << 16
"""samples of each channel that are decoded at a time"""
ZEROS, ROLLOFF, KAISER = 64, 0.96, 7.0
"""the low-pass of the resampling: its zeros on each side, its cutoff as a share of half the lower rate, and the shape
of its window. It passes 90 % of the band, and what would fold back is 70 dB below."""
LARGEST_FACTOR = 1_000
"""largest denominator of the ratio of rates; others are rounded to one, by less than 0.01 %"""


def wave_blocks(open_file: Callable[[], BinaryIO]) -> Iterator[np.ndarray]:
    """Yields the wave of a file in blocks, (T,) int16: the mean of its channels at `RATE`.

    Raises Unreadable if the file is no sound, is damaged from its start, or announces sizes beyond the bounds above.
    Raises BadInput if soundfile is not installed. A file that is cut off gives the sound up to there.
    """
    library = _library()
    try:
        with open_file() as file, library.SoundFile(file) as sound:
            _check_header(sound)
            count = 0
            for block in resampled(_mono(sound), sound.samplerate):
                count += len(block)
                if count > LONGEST * RATE:
                    raise Unreadable(f"has more than {LONGEST // 3600} hours of sound")
                yield (block * 32768).round().clip(-32768, 32767).astype(np.int16)
            if not count:
                raise Unreadable("has no samples")
    except (OSError, RuntimeError, ValueError, TypeError) as error:  # errors of libsndfile are RuntimeErrors
        reason = getattr(error, "strerror", None) or getattr(error, "error_string", None) or str(error)
        raise Unreadable(" ".join(str(reason).split()).removesuffix(".") or type(error).__name__) from error


def is_sound(open_file: Callable[[], BinaryIO]) -> bool:
    """Returns True if the header of a file is that of a sound."""
    try:
        with open_file() as file, _library().SoundFile(file) as sound:
            _check_header(sound)
    except (OSError, RuntimeError, ValueError, TypeError, Unreadable):
        return False
    return True


def resampled(blocks: Iterable[np.ndarray], file_rate: int) -> Iterator[np.ndarray]:
    """Yields a wave at `RATE` from its blocks (T,) float32 at another rate: ceil(T · RATE / file_rate)
    samples in all.

    Sample n of the result is a weighted sum of the samples around the place n · file_rate / RATE. The weights are
    those of a low-pass filter, a sinc in a Kaiser window. Since the ratio of rates is a fraction up / down, there are
    only `up` different sets of weights, and a block is one matrix product.
    """
    ratio = Fraction(RATE, file_rate).limit_denominator(LARGEST_FACTOR)
    if ratio == 1:
        yield from blocks
        return
    up, down = ratio.numerator, ratio.denominator
    bank, before = _bank(up, down)
    waiting, arrived, sent = np.zeros(before, np.float32), 0, 0
    end = np.zeros(bank.shape[1] + down, np.float32)
    for block in chain(blocks, [None]):
        waiting = np.concatenate([waiting, end if block is None else block])
        arrived += 0 if block is None else len(block)
        steps = (len(waiting) - bank.shape[1]) // down + 1
        if steps < 1:
            continue
        windows = sliding_window_view(waiting[: (steps - 1) * down + bank.shape[1]], bank.shape[1])[::down]
        samples = (windows @ bank.T).ravel()[: -(-arrived * up // down) - sent if block is None else None]
        sent += len(samples)
        waiting = waiting[steps * down :]
        yield samples


@lru_cache(maxsize=8)
def _bank(up: int, down: int) -> tuple[np.ndarray, int]:
    """Returns the weights of `up` samples of the result, (up, K) float32, and the number of them that stand before the
    first sample's own place."""
    cutoff = min(1.0, up / down) * ROLLOFF
    half = ceil(ZEROS / cutoff)
    tap = np.arange(-half, down + half + 1)
    distance = tap - np.arange(up)[:, None] * down / up  # (up, K), in samples of the file
    window = np.i0(KAISER * np.sqrt(np.clip(1 - (distance / half) ** 2, 0, None))) * (np.abs(distance) <= half)
    weights = np.sinc(cutoff * distance) * window
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32), half


def _mono(sound: Any) -> Iterator[np.ndarray]:
    """Yields the mean of the channels in blocks. Raises Unreadable for samples that are not finite."""
    while len(block := sound.read(BLOCK, dtype="float32", always_2d=True)):
        mono = block.mean(axis=1)
        if not np.isfinite(mono).all():
            raise Unreadable("has samples that are not finite")
        yield mono


def _check_header(sound: Any) -> None:
    """Raises Unreadable for a file whose header announces more than the bounds."""
    if not LOWEST <= sound.samplerate <= HIGHEST:
        raise Unreadable(f"has {sound.samplerate:,} samples a second, and {LOWEST:,} to {HIGHEST:,} are read")
    if not 1 <= sound.channels <= MOST_CHANNELS:
        raise Unreadable(f"has {sound.channels} channels, and up to {MOST_CHANNELS} are read")


def _library() -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise BadInput(f"Reading sounds needs soundfile ({error}); pip install 'sanslabel[audio]'.") from error
    return soundfile
