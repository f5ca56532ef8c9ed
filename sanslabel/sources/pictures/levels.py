"""Levels: which stored numbers become black and white, for pictures of more than 8 bits.

A camera of 12 bits stores 0 to 4,095 in 16 bits. Divided by 257, such pictures would be black. So the levels come from
a sample of the files: for each channel, the percentiles 0.1 and 99.9 of its pixels. Each channel has levels of its own,
since stains differ in brightness, and a dim one would lose its contrast beside a bright one. In color photos, this
amounts to a fixed white balance. All pictures share the levels, so that their brightness can be compared. Stated ranges
are not used: `SMaxSampleValue` and ImageJ's `max` differ from picture to picture, and PNG's sBIT is no range.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Levels = tuple[tuple[float, float], ...]
"""for each channel, the stored numbers that become 0 and 255"""

PERCENTILES = (0.1, 99.9)
"""share of a channel's pixels in % at or below its two levels; beyond them lie hot pixels and dust"""
SIXTEEN_BITS = (0.0, 65535.0)
"""levels of 16 bits whose range is not known"""
_BLOCK = 1 << 20
"""pixels that are scaled at a time, which bounds the memory"""


def measured_levels(samples: Sequence[np.ndarray], among_8_bits: bool) -> Levels:
    """Returns the levels of each channel from pixels of several pictures, (C, n) each.

    among_8_bits: True if other pictures have 8 bits, which are not stretched. Whole numbers from 0 up are then scaled
    by their depth instead: the smallest of 8 to 16 bits that holds them all.
    """
    pixels = np.concatenate(samples, axis=1)
    depths = (255, 1023, 4095, 16383, 65535)
    if among_8_bits and pixels.dtype == np.uint16:
        return ((0.0, float(next(depth for depth in depths if pixels.max() <= depth))),) * len(pixels)
    return tuple(_levels(channel[np.isfinite(channel)]) for channel in pixels)


def _levels(pixels: np.ndarray) -> tuple[float, float]:
    """Returns two levels that differ, even if the percentiles or all pixels are equal."""
    if not pixels.size:
        return 0.0, 1.0
    low, high = np.percentile(pixels, PERCENTILES, method="nearest").astype(float).tolist()
    high = max(high, float(pixels.max())) if high <= low else high
    return low, high if high > low else low + max(1.0, abs(low))


def scaled(pixels: np.ndarray, levels: Levels) -> np.ndarray:
    """Returns pixels (C, H, W) between the levels of their channels as 0 to 255, uint8. Pixels beyond the levels are
    clipped, and those that are no number are 0."""
    result = np.empty(pixels.shape, np.uint8)
    dtype = np.float32 if pixels.dtype == np.uint16 else np.float64
    lines = max(1, _BLOCK // max(1, pixels.shape[2]))
    for channel, out, (low, high) in zip(pixels, result, levels, strict=True):
        for top in range(0, len(channel), lines):
            block = (channel[top : top + lines].astype(dtype) - dtype(low)) * dtype(255 / (high - low)) + dtype(0.5)
            out[top : top + lines] = np.nan_to_num(block, nan=0.0, posinf=255.0, neginf=0.0).clip(0, 255.5)
    return result


def described(levels: Levels) -> str:
    """Returns the levels in words: "101 to 4,012", or "channel 1 from 101 to 4,012, channel 2 from …"."""
    ranges = [f"{low:,.6g} to {high:,.6g}" for low, high in levels]
    if len(set(ranges)) == 1:
        return ranges[0]
    return ", ".join(f"channel {number} from {range_}" for number, range_ in enumerate(ranges, 1))
