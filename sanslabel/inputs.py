"""Specifications of inputs: the shapes of the images, spectrograms and texts that encoders read.

A specification is frozen and made of numbers, so that it can be stored as JSON. A source states one specification for
each of its signals. An encoder is built for one specification: `encoders.build(name, **spec.arguments)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

DECODE_FACTOR = 8 / 7
"""the side to which pictures of files are reduced, as a factor of the side that the encoder reads: 256 for 224"""

PADDING, BEGIN, END = 0, 1, 2
"""ids of tokens that stand for no text: after the end, before the first token, and at the end"""


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """Images of `channels` x `height` x `width` pixels."""

    argument_names: ClassVar = ("channels", "image_size")

    channels: int
    height: int
    """in pixels, as the encoder reads them"""
    width: int
    levels: tuple[tuple[float, float], ...] | None = None
    """for each channel, the stored numbers that become 0 and 1 where files have more than 8 bits; None for 8 bits"""

    @property
    def side(self) -> int:
        """Returns the shorter side in pixels."""
        return min(self.height, self.width)

    @property
    def shape(self) -> tuple[int, ...]:
        """Returns the shape of one sample as an encoder reads it: (C, H, W)."""
        return self.channels, self.height, self.width

    @property
    def arguments(self) -> dict[str, Any]:
        """Returns the arguments of `encoders.build` for square images of the shorter side."""
        levels = {} if self.levels is None else {"levels": self.levels}
        return {"channels": self.channels, "image_size": self.side, **levels}

    @classmethod
    def of_arguments(cls, arguments: Mapping[str, Any]) -> Self:
        """Returns the specification in these arguments, and ignores others. Raises KeyError if one is missing."""
        height, width = height_and_width(arguments["image_size"])
        levels = arguments.get("levels")
        levels = None if levels is None else tuple((float(low), float(high)) for low, high in levels)
        return cls(channels=arguments["channels"], height=height, width=width, levels=levels)


@dataclass(frozen=True, kw_only=True)
class SpectrogramSpec:
    """Log-mel spectrograms: `mels` frequency bands at `frames` points in time, of sound with `rate` samples a
    second."""

    argument_names: ClassVar = ("mels", "frames", "rate")

    mels: int
    frames: int
    rate: int
    """samples of the wave in a second (Hz)"""

    @property
    def shape(self) -> tuple[int, ...]:
        """Returns the shape of one sample as an encoder reads it: (1, mels, frames)."""
        return 1, self.mels, self.frames

    @property
    def arguments(self) -> dict[str, int]:
        """Returns the arguments of `encoders.build`."""
        return asdict(self)

    @classmethod
    def of_arguments(cls, arguments: Mapping[str, Any]) -> Self:
        """Returns the specification in these arguments, and ignores others. Raises KeyError if one is missing."""
        return cls(**{name: arguments[name] for name in cls.argument_names})


@dataclass(frozen=True, kw_only=True)
class TextSpec:
    """Texts of up to `length` tokens from a vocabulary of `vocabulary` tokens."""

    argument_names: ClassVar = ("vocabulary", "length")

    vocabulary: int
    """tokens of the vocabulary, with padding (0), begin (1) and end (2)"""
    length: int
    """most tokens of a text, with its end"""
    tokenizer: str = ""
    """the SHA-256 of the vocabulary's file; empty if it is not known"""

    @property
    def shape(self) -> tuple[int, ...]:
        """Returns the shape of one sample as an encoder reads it: (length,)."""
        return (self.length,)

    @property
    def arguments(self) -> dict[str, Any]:
        """Returns the arguments of `encoders.build`."""
        tokenizer = {"tokenizer": self.tokenizer} if self.tokenizer else {}
        return {"vocabulary": self.vocabulary, "length": self.length, **tokenizer}

    @classmethod
    def of_arguments(cls, arguments: Mapping[str, Any]) -> Self:
        """Returns the specification in these arguments, and ignores others. Raises KeyError if one is missing."""
        shape = {name: arguments[name] for name in cls.argument_names}
        return cls(**shape, tokenizer=str(arguments.get("tokenizer", "")))


def height_and_width(image_size: int | tuple[int, int]) -> tuple[int, int]:
    """Returns the height and the width that an encoder is built for: one side stands for both."""
    return (image_size, image_size) if isinstance(image_size, int) else (image_size[0], image_size[1])


InputSpec = ImageSpec | SpectrogramSpec | TextSpec
