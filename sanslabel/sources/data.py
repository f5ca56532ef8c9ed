"""The data that a person names: places, and the choices with which they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from sanslabel.constraints import ARRAYS
from sanslabel.errors import BadValue
from sanslabel.sources.texts.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class TextChoices:
    """The choices with which texts are read."""

    languages: tuple[str, ...] = ()
    """the languages of the source and of the target, as the data name them; empty if the data have only two"""
    vocabulary: int | None = None
    """most tokens of a vocabulary that is made for the data; None for the default"""
    longest: int | None = None
    """most tokens of a sentence, with its end; None for the default"""
    tokenizer: Tokenizer | None = None
    """the vocabulary; None for one that is made from the training split"""


@dataclass(frozen=True)
class Data:
    """One or several places of data that are read as one set, with the choices that change their samples."""

    places: tuple[str | Path, ...]
    """folders, files, or the name of an embedded set"""
    labels: str | None = None
    """a file that states the labels of pictures, in place of their folders"""
    skip_unreadable: bool = False
    """True to go on however many pictures cannot be read"""
    clips: bool = False
    """True if pictures are frames, and each folder of them is a clip"""
    fps: float | None = None
    """most frames a second that are kept of a video, and the rate of folders of frames; None for the default"""
    signals: tuple[str, ...] = ("image",)
    """signals that the method reads; a folder of pictures with sounds is read as pairs only for both"""
    frame_side: int | None = None
    """the shorter side in pixels to which frames of videos are reduced; None for one that suits the image size"""
    copies: bool = False
    """True to count each copy of a picture as a sample of its own, as runs of earlier versions did"""
    text: TextChoices = TextChoices()
    """how texts are read"""

    def __str__(self) -> str:
        return ", ".join(map(str, self.places))


AnyData = str | Path | Sequence[str | Path] | Data
"""a path or name, several of them, or these with choices"""


def data_of(data: AnyData, **choices: Any) -> Data:
    """Returns the data with these choices. Raises BadValue for anything but paths, names and data."""
    if isinstance(data, Data):
        return replace(data, **choices)
    places = (data,) if isinstance(data, str | PathLike) else tuple(data) if isinstance(data, tuple | list) else ()
    if not places or not all(isinstance(place, str | PathLike) for place in places):
        raise BadValue("--data", data, ARRAYS)
    return Data(places, **choices)
