"""Masks: patches that a view lacks, as index tensors from the samples' keys."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sanslabel.batch import Batch
from sanslabel.errors import BadInput
from sanslabel.randomness import bits, fold
from sanslabel.stopwatch import timed
from sanslabel.views.color import means
from sanslabel.views.encoder_input import EncoderInput
from sanslabel.views.view import View, masked_view, resized_to

BRANCH = 1
"""of a stream, where masks come from; a view's numbers have another"""


def kept_patches(key: Tensor, patches: int, ratio: float, stream: int) -> Tensor:
    """The patches of every sample that are not masked, a uniformly random subset.

    key: (N,) int64; patches: L, how many there are; ratio: the part that is masked, in [0, 1)
    -> (N, K) int64, ascending, K = int(L · (1 - ratio)) as MAE has it. BadInput where that leaves none.
    """
    keep = int(patches * (1 - ratio))
    if not 0 <= ratio < 1 or keep < 1:
        raise BadInput(
            f"Masking {ratio} of {patches} patches leaves none; give a smaller ratio from 0 up, or more patches."
        )
    order = bits(key, patches, fold(stream, BRANCH)).argsort(dim=1, stable=True)
    return order[:, :keep].sort(dim=1).values


def other_patches(index: Tensor, patches: int) -> Tensor:
    """The patches that are not among these, ascending.

    index: (N, K) int64, of `patches`, none twice in a row -> (N, patches - K) int64.
    """
    taken = index.new_zeros(len(index), patches).scatter_(1, index, 1)
    return taken.argsort(dim=1, stable=True)[:, : patches - index.shape[1]]


@dataclass(frozen=True, kw_only=True)
class Masked:
    """A view whose square patches are masked at random: they take the mean color of the view.

    A network that drops tokens is handed the patches that remain by `keep`; `input` does it.
    """

    view: View
    """what is done before"""
    patch: int = 4
    """side of a patch in pixels; a whole number of them makes the view's side"""
    ratio: float = 0.75
    """the part of the patches that is masked"""
    size: int | None = None
    """side of the view in pixels; None leaves it to the view"""

    def __post_init__(self) -> None:
        if self.patch < 1:
            raise BadInput(f"A view's patch is {self.patch}; give a number of pixels from 1 up.")

    @timed("views")
    def keep(self, batch: Batch, stream: int, side: int) -> Tensor:
        """(N, K) int64: the patches that are left of a view of `side` pixels, in rows from the top left. BadInput where
        patches do not fit."""
        if side % self.patch:
            raise BadInput(
                f"Patches of {self.patch} pixels do not fill a view of {side}; choose another patch or size."
            )
        return kept_patches(batch.key, (side // self.patch) ** 2, self.ratio, stream)

    @timed("views")
    @torch.no_grad()
    def __call__(self, batch: Batch, stream: int) -> Tensor:
        """(N, C, S, S). BadInput where patches do not fit."""
        images = resized_to(self.size, self.view)(batch, stream)
        return visible(images, self.keep(batch, stream, images.shape[-1]), self.patch)

    def input(self, batch: Batch, stream: int) -> EncoderInput:
        """Returns the view, and which patches it has left, for an encoder."""
        images = self(batch, stream)
        return EncoderInput(images, self.keep(batch, stream, images.shape[-1]), self.patch)

    def plain(self, batch: Batch) -> EncoderInput:
        """Returns the largest central square of every image at the size of the view, without a draw or a mask."""
        return resized_to(self.size, self.view).plain(batch)

    def masked(self, patch: int) -> Masked:
        """Returns `MASKED` with square patches of `patch` pixels a side."""
        return masked_view(patch)


@torch.no_grad()
def visible(images: Tensor, keep: Tensor, patch: int) -> Tensor:
    """The images with the mean color in the place of all patches but those to `keep`.

    images: (N, C, S, S); keep: (N, K) int64; patch: side of a patch in pixels -> (N, C, S, S).
    """
    n, _, side, _ = images.shape
    grid = side // patch
    seen = torch.zeros(n, grid * grid, dtype=torch.bool, device=images.device).scatter_(1, keep, True)
    seen = seen.view(n, 1, grid, 1, grid, 1).expand(-1, -1, -1, patch, -1, patch).reshape(n, 1, side, side)
    return torch.where(seen, images, means(images).to(images.dtype)[:, :, None, None])
