"""Pictures of objects, cut out of frames around the boxes of their tracks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import Tensor

from sanslabel.batch import Images
from sanslabel.inputs import InputSpec
from sanslabel.randomness import Stream, fold, uniform
from sanslabel.sources.pictures.images import ImagesFrom, zeros
from sanslabel.sources.source import Loaded, Request, Source, describe_

SHIFT = 0.1
"""most by which a box moves, as a share of its side"""
SCALE = 0.1
"""most by which a box grows or shrinks, as a share of its side"""
CONTEXT = (1.0, 1.5)
"""range of the side that is shown, as a factor of the box's side"""
PLAIN = 1.25
"""side that is shown without a draw, as a factor of the box's side"""
REACH = 2 * SHIFT + (1 + SCALE) * CONTEXT[1]
"""side of the region within which every draw lies, as a factor of the box's side"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Crops(Source):
    """Boxes of tracks, of which `base` has pictures with a margin. The group of a sample is its track.

    A sample shows its box and a fixed part of what surrounds it. If `varied`, the place, the size and the surroundings
    of the box are drawn from the key of the sample.
    """

    base: ImagesFrom
    """regions of frames, with group and time"""
    boxes: Tensor
    """(N, 4) float32, left, top, right and bottom of the square box as shares of the region's width and height"""
    varied: bool = False
    name: str = field(init=False)
    split: str = field(init=False)
    labels: Tensor = field(init=False)
    classes: tuple[str, ...] = field(init=False)
    inputs: Mapping[str, InputSpec] = field(init=False)
    group: Tensor | None = field(init=False, default=None)
    time: Tensor | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        describe_(self, self.base)
        object.__setattr__(self, "inputs", self.base.inputs)
        object.__setattr__(self, "remarks", self.remarks or self.base.remarks)

    @property
    def decodes(self) -> bool:
        return self.base.decodes

    @property
    def pictures(self) -> ImagesFrom:
        return self.base

    def with_pictures(self, pictures: ImagesFrom) -> Self:
        return replace(self, base=pictures)

    @cached_property
    def fingerprint(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.base.fingerprint

    def id(self, index: int) -> str:
        return self.base.id(index)

    def subset(self, index: Tensor) -> Self:
        return replace(self, base=self.base.subset(index), boxes=self.boxes[index])

    def with_varied_boxes(self) -> Self:
        return replace(self, varied=True)

    def load(self, request: Request) -> Loaded:
        loaded = self.base.load(request)
        pixels, sizes = loaded.images
        if sizes is None:
            sizes = torch.tensor(pixels.shape[2:]).expand(len(pixels), 2)
        cuts = self.cuts(loaded.index, sizes, request.key)
        height, width = (cuts[:, 2:] - cuts[:, :2]).amax(0).flip(0).tolist()
        canvas = zeros(len(pixels), pixels.shape[1], height, width)
        for image, picture, (left, top, right, bottom) in zip(canvas, pixels, cuts.tolist(), strict=True):
            image[:, : bottom - top, : right - left] = picture[:, top:bottom, left:right]
        shown = (cuts[:, 2:] - cuts[:, :2]).flip(1)
        filled = bool((shown == shown[0]).all())
        return loaded._replace(signals={**loaded.signals, "image": Images(canvas, None if filled else shown)})

    def cuts(self, index: Tensor, sizes: Tensor, key: int) -> Tensor:
        """Returns the part of each region that is shown, drawn with an epoch's key.

        index: (n,); sizes: (n, 2), height and width of the regions in pixels -> (n, 4) int64, left, top, right and
        bottom in pixels. Each part has at least one pixel.
        """
        left, top, right, bottom = self.boxes[index].unbind(1)
        center, side = torch.stack([left + right, top + bottom], 1) / 2, torch.stack([right - left, bottom - top], 1)
        shown = PLAIN * side
        if self.varied:
            keys = fold(fold(torch.full_like(index, key), index), Stream.BOX)
            across, down, scale, context = uniform(keys, 4, 0).unbind(1)
            center = center + SHIFT * (2 * torch.stack([across, down], 1) - 1) * side
            factor = (1 + SCALE * (2 * scale - 1)) * (CONTEXT[0] + (CONTEXT[1] - CONTEXT[0]) * context)
            shown = factor[:, None] * side
        pixels = sizes.flip(1)  # width and height
        low = ((center - shown / 2) * pixels).round().long()
        high = ((center + shown / 2) * pixels).round().long()
        low = torch.minimum(low.clamp(min=0), pixels - 1)
        high = torch.maximum(torch.minimum(high, pixels), low + 1)
        return torch.cat([low, high], 1)


def square_boxes(corners: np.ndarray) -> np.ndarray:
    """Returns the square around the middle of each box that contains it: corners (N, 4) -> (N, 4) float64."""
    center, half = (corners[:, :2] + corners[:, 2:]) / 2, (corners[:, 2:] - corners[:, :2]).max(1, keepdims=True) / 2
    return np.concatenate([center - half, center + half], 1)


def regions_around(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Returns the regions of the pictures that boxes with their margins take, (N, 4) int64: left, top, right, bottom.

    boxes: (N, 4), square, in pixels; sizes: (N, 2), width and height of the pictures. A region ends with its picture,
    and its longer side has at most twice the length of the shorter one.
    """
    center, half = (boxes[:, :2] + boxes[:, 2:]) / 2, REACH * (boxes[:, 2:] - boxes[:, :2]) / 2
    low = np.clip(np.floor(center - half), 0, sizes - 1).astype(np.int64)
    high = np.clip(np.ceil(center + half), low + 1, sizes).astype(np.int64)
    longest = 2 * (high - low).min(1, keepdims=True)
    begin = np.clip(np.round(center - longest / 2).astype(np.int64), low, np.maximum(low, high - longest))
    low, high = np.where(high - low > longest, begin, low), np.where(high - low > longest, begin + longest, high)
    return np.concatenate([low, high], 1)
