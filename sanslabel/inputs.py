"""What an encoder reads and a source offers, by kind: the shapes of pictures, spectrograms and texts.

A specification is frozen and made of numbers, so that it can be stored as JSON. A source announces one for each of its
signals, and an encoder is built for one.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """Pictures of `channels` x `height` x `width` pixels."""

    channels: int
    height: int
    """in pixels, of what the encoder reads"""
    width: int

    @property
    def side(self) -> int:
        """Returns the shorter side in pixels."""
        return min(self.height, self.width)


@dataclass(frozen=True, kw_only=True)
class SpectrogramSpec:
    """Logarithms of `mels` bands over `frames` points of time, of sound with `rate` samples a second."""

    mels: int
    frames: int
    rate: int
    """samples of the wave in a second (Hz)"""


@dataclass(frozen=True, kw_only=True)
class TextSpec:
    """Up to `length` tokens from a vocabulary of `vocabulary` tokens."""

    vocabulary: int
    length: int


InputSpec = ImageSpec | SpectrogramSpec | TextSpec
