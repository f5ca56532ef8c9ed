"""Inputs of encoders: `encoder(*view.input(batch, stream))`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sanslabel.errors import BadInput


class EncoderInput(NamedTuple):
    """Arguments of an encoder. A convnet reads the images, whose masked patches the view has filled. A transformer
    drops the tokens of those patches instead."""

    images: Tensor
    """(N, C, S, S), floating in [0, 1]; or spectrograms (N, 1, mels, frames); or the ids of tokens (N, T), int64"""
    keep: Tensor | None = None
    """(N, K) int64, the patches that the view does not mask; None if it masks none"""
    patch: int | None = None
    """side of a patch in pixels"""

    def select(self, choose: Callable[[Tensor], Tensor]) -> EncoderInput:
        """Returns the samples that `choose` selects of each tensor: `input.select(lambda tensor: tensor[::2])`."""
        return EncoderInput(choose(self.images), None if self.keep is None else choose(self.keep), self.patch)


def concatenate(*inputs: EncoderInput) -> EncoderInput:
    """Returns the inputs one after the other along the batch, for one pass through a network. All must have the same
    size and the same number of masked patches."""
    images, keeps, patches = zip(*inputs, strict=True)
    return EncoderInput(torch.cat(images), None if keeps[0] is None else torch.cat(keeps), patches[0])


def forward_by_size(network: Callable[..., Tensor], crops: Sequence[EncoderInput]) -> list[Tensor]:
    """Returns network(*crop) of every crop. Crops of one size share a pass, as in multi-crop methods (Caron et al.
    2020), so that BatchNorm sees each size by itself.

    crops: V inputs (N, C, S, S), those of one size next to each other -> V outputs (N, D).
    """
    sizes = [crop.images.shape[-1] for crop in crops]
    groups = [[c for c, size in zip(crops, sizes, strict=True) if size == one] for one in dict.fromkeys(sizes)]
    return [output for group in groups for output in network(*concatenate(*group)).chunk(len(group))]


def ghost_batches(network: Callable[..., Tensor], view: EncoderInput, groups: int) -> Tensor:
    """Returns network(*view), computed in `groups` passes. Each takes every groups-th sample, with BatchNorm statistics
    of its own.

    view: N samples -> (N, D), in their order. Raises BadInput if the groups would differ in size.
    """
    if len(view.images) % groups:
        raise BadInput(
            f"A batch of {len(view.images)} samples cannot be normalized in {groups} equal groups; give a multiple "
            f"of {groups} (--batch), or fewer (--method.groups)."
        )
    outputs = [network(*view.select(lambda tensor, first=first: tensor[first::groups])) for first in range(groups)]
    return torch.stack(outputs, dim=1).flatten(0, 1)
