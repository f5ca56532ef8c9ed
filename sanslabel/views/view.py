"""A view: a random crop of an image in random colors, drawn from the sample's key and rendered by matrices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from sanslabel.batch import Batch
from sanslabel.errors import BadInput
from sanslabel.inputs import SpectrogramSpec
from sanslabel.randomness import fold, uniform
from sanslabel.stopwatch import timed
from sanslabel.views.color import Colors, recolored
from sanslabel.views.crops import DRAWS, boxes, central
from sanslabel.views.encoder_input import EncoderInput
from sanslabel.views.photometric import Tones, draw_tones, toned
from sanslabel.views.pixels import view_dtype
from sanslabel.views.resampling import cropped
from sanslabel.views.resize import resize_images
from sanslabel.views.spectrogram import LogMel, sound_view

if TYPE_CHECKING:
    from sanslabel.views.masks import Masked

BRANCH = 0
"""branch of a stream that views are drawn from; masks have another branch"""
BEFORE_BOX = 10
"""number of uniform draws before those of the box. Each column of draws keeps its meaning forever; a new operation
takes another branch."""


class Draw(NamedTuple):
    """Draws for every sample of a batch; None for operations that the view does not have."""

    boxes: Tensor
    """(N, 4) int64: top, left, height, width"""
    mirrored: Tensor | None = None
    """(N,) bool"""
    sigma: Tensor | None = None
    """(N,) standard deviation of the blur in pixels of the view, 0 for no blur"""
    colors: Colors | None = None
    solarized: Tensor | None = None
    """(N,) bool"""
    tones: Tones | None = None


@dataclass(frozen=True, kw_only=True)
class View:
    """A crop, resized, mirrored, blurred, changed in color and tone, solarized. By default each operation is left out.

    `view(batch, stream)` -> (N, C, S, S) in [0, 1]. A sample's draws are functions of its key and of `stream` alone, so
    that its view is the same in every batch. Views of floating images keep their dtype; views of uint8 images have the
    dtype of the batch. Colors are not clamped before the end (see `color`), and hue rotates chroma at constant luma.
    """

    signal: ClassVar[str] = "image"
    """the signal of a batch that the view reads"""

    crop: tuple[float, float] | None = None
    """range of the crop's share of the area; None takes the largest central square, as evaluation does"""
    crop_of: Literal["image", "square"] = "image"
    """area that `crop` is a share of: that of the image, or that of its largest square, so that square crops always
    fit"""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """range of the crop's width/height"""
    size: int | None = None
    """side of the view in pixels; None is the shorter side of the batch's canvas"""
    flip: float = 0.0
    """probability that left and right change places"""
    jitter: float = 0.0
    """probability that brightness, contrast, saturation and hue change"""
    brightness: float = 0.0
    """the factor of brightness is uniform in 1 ± this number, and not below 0"""
    contrast: float = 0.0
    """the factor of contrast is uniform in 1 ± this number, and not below 0"""
    saturation: float = 0.0
    """the factor of saturation is uniform in 1 ± this number, and not below 0; for RGB"""
    hue: float = 0.0
    """the angle of the hue is uniform in 0 ± this number, in full rotations, 0.5 at most; for RGB"""
    grayscale: float = 0.0
    """probability that the view is gray; for RGB"""
    blur: float = 0.0
    """probability of a Gaussian blur; the kernel takes a tenth of the view, at least 3 pixels"""
    sigma: tuple[float, float] = (0.1, 2.0)
    """range of the blur's standard deviation, in pixels of the view"""
    solarize: float = 0.0
    """probability that values of 0.5 and above are inverted"""
    photometric: float = 0.0
    """probability that the view is posterized, sharpened or smoothed, solarized from a random value up, and stretched
    to the widest contrast, as PIRL's are"""
    without_rgb: Literal["refuse", "omit"] = "refuse"
    """refuse or leave out saturation, hue and grayscale if images do not have three channels"""

    def __post_init__(self) -> None:
        for name in ("flip", "jitter", "grayscale", "blur", "solarize", "photometric"):
            _check_field(name, getattr(self, name), 0 <= getattr(self, name) <= 1, "a probability from 0 to 1")
        for name in ("brightness", "contrast", "saturation"):
            _check_field(name, getattr(self, name), getattr(self, name) >= 0, "a number from 0 up")
        _check_field("hue", self.hue, 0 <= self.hue <= 0.5, "a number from 0 to 0.5")
        low, high = self.crop or (1, 1)
        _check_field("crop", self.crop, 0 < low <= high <= 1, "two numbers above 0 and up to 1, the smaller one first")
        for name in ("ratio", "sigma"):
            low, high = getattr(self, name)
            _check_field(name, (low, high), 0 < low <= high, "two numbers above 0, the smaller one first")
        _check_field("size", self.size, self.size is None or self.size >= 1, "a number of pixels from 1 up")

    @timed("views")
    def __call__(self, batch: Batch, stream: int) -> Tensor:
        """Returns this stream's view of every sample, (N, C, S, S)."""
        pixels, _ = batch.images(stream)
        return self.render(pixels, self.draw(batch, stream), batch.dtype)

    def input(self, batch: Batch, stream: int) -> EncoderInput:
        """Returns this stream's view of every sample, for an encoder."""
        return EncoderInput(self(batch, stream))

    def plain(self, batch: Batch) -> EncoderInput:
        """Returns the largest central square of every image at the size of the view, without a draw."""
        return EncoderInput(resize_images(batch.images(), self.size))

    @property
    def crop_alone(self) -> View:
        """Returns the view with nothing but its crop, at its size."""
        return View(crop=self.crop, crop_of=self.crop_of, ratio=self.ratio, size=self.size)

    @property
    def without_crop(self) -> View:
        """Returns the view without its crop, at the size of the images."""
        return replace(self, crop=None, size=None)

    def masked(self, patch: int) -> Masked:
        """Returns the view that takes this one's place in a masked joint embedding: `MASKED` with square patches of
        `patch` pixels a side."""
        return masked_view(patch)

    def of_sound(self, spec: SpectrogramSpec) -> LogMel:
        """Returns the view of sound that takes this one's place, see `sound_view`."""
        return sound_view(spec)

    def of_tiles(self, tiles: Tensor, batch: Batch, stream: int) -> Tensor:
        """Returns the tiles (N, P, C, s, s) with this view, without its crop, drawn for each of them by itself."""
        from sanslabel.views.tiles import view_of_each  # which draws the views of this file

        return view_of_each(tiles, self.without_crop, batch, stream)

    @torch.no_grad()
    def draw(self, batch: Batch, stream: int) -> Draw:
        """Returns the draws for every sample. Raises BadInput if the view needs RGB and images have other channels."""
        pixels, sizes = batch.images(stream)
        n, channels, *canvas = pixels.shape
        draws = uniform(batch.key, BEFORE_BOX + (DRAWS if self.crop else 0), fold(stream, BRANCH))
        flip, *jitter, blur, sigma, solarize = draws[:, :BEFORE_BOX].unbind(1)
        full = [batch.key.new_full((n,), side) for side in canvas]
        height, width = full if sizes is None else sizes.unbind(1)
        low, high = self.sigma
        return Draw(
            boxes=boxes(draws[:, BEFORE_BOX:], height, width, self.crop, self.ratio, self.crop_of == "square")
            if self.crop
            else central(height, width),
            mirrored=flip < self.flip if self.flip else None,
            sigma=torch.where(blur < self.blur, low + (high - low) * sigma, 0) if self.blur else None,
            colors=self._colors(channels, *jitter),
            solarized=solarize < self.solarize if self.solarize else None,
            tones=draw_tones(batch.key, self.photometric, stream) if self.photometric else None,
        )

    def _colors(
        self, channels: int, on: Tensor, b: Tensor, c: Tensor, s: Tensor, h: Tensor, gray: Tensor
    ) -> Colors | None:
        rgb = channels == 3
        for name in ("saturation", "hue", "grayscale"):
            if not rgb and getattr(self, name) and self.without_rgb == "refuse":
                raise BadInput(
                    f"A view's {name} needs RGB, and the channels of these images are {channels}; set it to 0, "
                    'or without_rgb to "omit".'
                )
        if not self.jitter and not (rgb and self.grayscale):
            return None

        changed = on < self.jitter

        def factor(draw: Tensor, strength: float) -> Tensor:
            low = max(0, 1 - strength)
            return torch.where(changed, low + (1 + strength - low) * draw, 1)

        return Colors(
            brightness=factor(b, self.brightness),
            contrast=factor(c, self.contrast),
            saturation=factor(s, self.saturation) if rgb else None,
            hue=torch.where(changed, self.hue * (2 * h - 1), 0) if rgb else None,
            grayscale=gray < self.grayscale if rgb else None,
        )

    @torch.no_grad()
    def render(self, images: Tensor, draw: Draw, dtype: torch.dtype = torch.float32) -> Tensor:
        """Returns color @ (vertical @ image @ horizontal.T), clamped to [0, 1], then with other tones, then solarized.

        images: (N, C, H, W), uint8 or floating in [0, 1]; dtype: the one in which views of uint8 are computed
        -> (N, C, S, S).
        """
        dtype = view_dtype(images, dtype)
        size = self.size or min(images.shape[2:])
        view = cropped(images, draw.boxes, size, dtype, draw.mirrored, draw.sigma)
        with torch.autocast(images.device.type, enabled=False):
            if draw.colors is not None:
                view = recolored(view, draw.colors)
            view = view.clamp_(0, 1)
            if draw.tones is not None:
                view = toned(view, draw.tones)
            if draw.solarized is not None:
                # From 0.5 up, 1 - x is less than x, and inverts; no x in [0, 1] exceeds 2 - x, which changes nothing.
                limit = torch.where(draw.solarized, 1.0, 2.0).to(dtype)[:, None, None, None]
                view = torch.minimum(view, limit - view)
        return view


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two different views: even streams take the first, odd ones the second."""

    signal: ClassVar[str] = "image"
    """the signal of a batch that the view reads"""

    first: View
    second: View
    size: int | None = None
    """side in pixels of each view whose size is open"""

    def __call__(self, batch: Batch, stream: int) -> Tensor:
        """Returns this stream's view of every sample, (N, C, S, S)."""
        return resized_to(self.size, (self.first, self.second)[stream % 2])(batch, stream)

    def input(self, batch: Batch, stream: int) -> EncoderInput:
        """Returns this stream's view of every sample, for an encoder."""
        return EncoderInput(self(batch, stream))

    def plain(self, batch: Batch) -> EncoderInput:
        """Returns the largest central square of every image at the size of the view, without a draw."""
        return resized_to(self.size, self.first).plain(batch)

    def masked(self, patch: int) -> Masked:
        """Returns the view that takes this one's place in a masked joint embedding: `MASKED` with square patches of
        `patch` pixels a side."""
        return masked_view(patch)

    def of_sound(self, spec: SpectrogramSpec) -> LogMel:
        """Returns the view of sound that takes this one's place in both streams, see `sound_view`."""
        return sound_view(spec)


def masked_view(patch: int) -> Masked:
    """Returns `MASKED` with square patches of `patch` pixels a side. Raises BadInput if `patch` is below 1."""
    from sanslabel.views.presets import MASKED  # made of the classes of this file

    return replace(MASKED, patch=patch)


def resized_to(size: int | None, view: View) -> View:
    """Returns the view, with this size if its size is open."""
    return replace(view, size=size) if view.size is None else view


def _check_field(name: str, value: object, good: bool, wanted: str) -> None:
    if not good:
        raise BadInput(f"A view's {name} is {value}; give {wanted}.")
