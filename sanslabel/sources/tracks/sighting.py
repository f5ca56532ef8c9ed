"""A box of an object in a frame, as formats of tracks hand it on."""

from __future__ import annotations

from typing import NamedTuple


class Sighting(NamedTuple):
    """One box of a track."""

    frame: str
    """path of the picture, relative to the folder of the data"""
    clip: str
    """the clip of the frame"""
    id: str
    """the object, unique in its clip"""
    seconds: float
    """since the start of the clip"""
    corners: tuple[float, float, float, float]
    """left, top, right and bottom in pixels, 0 at the outer edge of the first pixel"""
    label: str
    """the class of the object, "" if it has none"""
