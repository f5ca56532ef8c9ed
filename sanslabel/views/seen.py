"""What an encoder is given of a view: `encoder(*seen(view, batch, stream))`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sanslabel.batch import Batch
from sanslabel.errors import BadInput
from sanslabel.views.masks import Masked
from sanslabel.views.view import Pair, View

AnyView = View | Pair | Masked
"""what a method's `view` may be"""


class Seen(NamedTuple):
    """The arguments of an encoder. A convnet reads the images, whose masked patches the view has filled; a transformer
    drops the tokens of those patches instead."""

    images: Tensor
    """(N, C, S, S)"""
    keep: Tensor | None = None
    """(N, K) int64, the patches that the view has left; None where it masks none"""
    patch: int | None = None
    """side in pixels of those patches"""

    def rows(self, chosen: Callable[[Tensor], Tensor]) -> Seen:
        """What `chosen` takes of the rows: `view.rows(lambda part: part[::2])`."""
        return Seen(chosen(self.images), None if self.keep is None else chosen(self.keep), self.patch)


def seen(view: AnyView, batch: Batch, stream: int) -> Seen:
    """The view of every sample that belongs to this stream, for an encoder."""
    images = view(batch, stream)
    if not isinstance(view, Masked):
        return Seen(images)
    return Seen(images, view.keep(batch, stream, images.shape[-1]), view.patch)


def together(*parts: Seen) -> Seen:
    """One after the other along the batch, for one pass through a network. All are of one size and masked alike."""
    images, keeps, patches = zip(*parts, strict=True)
    keep = None if keeps[0] is None else torch.cat(keeps)
    return Seen(torch.cat(images), keep, patches[0])


def encoded(network: Callable[..., Tensor], crops: Sequence[Seen]) -> list[Tensor]:
    """network(*crop) of every crop, those of one size in one pass, as multi-crop methods do it (Caron et al. 2020):
    BatchNorm sees each size by itself.

    crops: V of (N, C, S, S), those of one size next to each other -> V of (N, D).
    """
    sizes = [crop.images.shape[-1] for crop in crops]
    groups = [[c for c, size in zip(crops, sizes, strict=True) if size == one] for one in dict.fromkeys(sizes)]
    return [part for group in groups for part in network(*together(*group)).chunk(len(group))]


def grouped(network: Callable[..., Tensor], view: Seen, groups: int) -> Tensor:
    """network(*view) with every groups-th sample in a pass of its own, over which BatchNorm takes its statistics.

    view: N samples -> (N, D), in their order. BadInput where the groups would differ in size.
    """
    if len(view.images) % groups:
        raise BadInput(
            f"A batch of {len(view.images)} samples cannot be normalized in {groups} equal groups; give a multiple "
            f"of {groups} (--batch), or fewer (--method.groups)."
        )
    parts = [network(*view.rows(lambda part, first=first: part[first::groups])) for first in range(groups)]
    return torch.stack(parts, dim=1).flatten(0, 1)
