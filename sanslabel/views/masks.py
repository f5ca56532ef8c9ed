"""Masks: patches that a view hides, as index tensors drawn from the samples' keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sanslabel.batch import Batch
from sanslabel.errors import BadInput
from sanslabel.inputs import SpectrogramSpec
from sanslabel.randomness import bits, fold
from sanslabel.stopwatch import timed
from sanslabel.views.color import means
from sanslabel.views.encoder_input import EncoderInput
from sanslabel.views.spectrogram import LogMel, sound_view
from sanslabel.views.view import View, masked_view, resized_to

BRANCH = 1
"""branch of a stream that masks are drawn from; the other draws of a view have other branches"""


def kept_patches(key: Tensor, patches: int, ratio: float, stream: int) -> Tensor:
    """Returns the patches of every sample that are not masked, a uniformly random subset.

    key: (N,) int64; patches: L, their number; ratio: the share that is masked, in [0, 1)
    -> (N, K) int64, ascending, K = int(L · (1 - ratio)) as in MAE. Raises BadInput if K is 0.
    """
    keep = int(patches * (1 - ratio))
    if not 0 <= ratio < 1 or keep < 1:
        raise BadInput(
            f"Masking {ratio} of {patches} patches leaves none; give a smaller ratio from 0 up, or more patches."
        )
    order = bits(key, patches, fold(stream, BRANCH)).argsort(dim=1, stable=True)
    return order[:, :keep].sort(dim=1).values


def other_patches(index: Tensor, patches: int) -> Tensor:
    """Returns the patches that are not in `index`, ascending.

    index: (N, K) int64, K different patches of each sample, from 0 to patches - 1 -> (N, patches - K) int64.
    """
    taken = index.new_zeros(len(index), patches).scatter_(1, index, 1)
    return taken.argsort(dim=1, stable=True)[:, : patches - index.shape[1]]


@dataclass(frozen=True, kw_only=True)
class Masked:
    """A view in which random square patches are masked with its mean color.

    `input` also returns the patches that remain, for a network that drops tokens. A method that accepts a `View` also
    accepts a masked one.
    """

    signal: ClassVar[str] = "image"
    """the signal of a batch that the view reads"""

    view: View
    """view whose patches are masked"""
    patch: int = 4
    """side of a patch in pixels; the view's side must be a multiple of it"""
    ratio: float = 0.75
    """share of the patches that is masked"""
    size: int | None = None
    """side of the view in pixels; None takes the size of `view`"""

    def __post_init__(self) -> None:
        if self.patch < 1:
            raise BadInput(f"A view's patch is {self.patch}; give a number of pixels from 1 up.")

    @timed("views")
    def keep(self, batch: Batch, stream: int, side: int) -> Tensor:
        """Returns the patches of a view of `side` pixels that are not masked, (N, K) int64, counted row by row from the
        top left. Raises BadInput if patches do not fill the view."""
        if side % self.patch:
            raise BadInput(
                f"Patches of {self.patch} pixels do not fill a view of {side}; choose another patch or size."
            )
        return kept_patches(batch.key, (side // self.patch) ** 2, self.ratio, stream)

    @timed("views")
    @torch.no_grad()
    def __call__(self, batch: Batch, stream: int) -> Tensor:
        """Returns this stream's masked view of every sample, (N, C, S, S). Raises BadInput if patches do not fill the
        view."""
        images = resized_to(self.size, self.view)(batch, stream)
        return visible(images, self.keep(batch, stream, images.shape[-1]), self.patch)

    def input(self, batch: Batch, stream: int) -> EncoderInput:
        """Returns the masked view and the patches that are not masked, for an encoder."""
        images = self(batch, stream)
        return EncoderInput(images, self.keep(batch, stream, images.shape[-1]), self.patch)

    def plain(self, batch: Batch) -> EncoderInput:
        """Returns the largest central square of every image at the size of the view, without a draw or a mask."""
        return resized_to(self.size, self.view).plain(batch)

    def masked(self, patch: int) -> Masked:
        """Returns `MASKED` with square patches of `patch` pixels a side."""
        return masked_view(patch)

    def of_sound(self, spec: SpectrogramSpec) -> LogMel:
        """Returns the view of sound that takes this one's place, with masks of its own, see `sound_view`."""
        return sound_view(spec)


@torch.no_grad()
def visible(images: Tensor, keep: Tensor, patch: int) -> Tensor:
    """Returns the images with every patch that is not in `keep` replaced by the image's mean color.

    images: (N, C, S, S); keep: (N, K) int64; patch: side of a patch in pixels -> (N, C, S, S).
    """
    n, _, side, _ = images.shape
    grid = side // patch
    shown = torch.zeros(n, grid * grid, dtype=torch.bool, device=images.device).scatter_(1, keep, True)
    shown = shown.view(n, 1, grid, 1, grid, 1).expand(-1, -1, -1, patch, -1, patch).reshape(n, 1, side, side)
    return torch.where(shown, images, means(images).to(images.dtype)[:, :, None, None])
