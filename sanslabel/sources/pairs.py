"""Samples with a partner of the same group: another frame of the clip, another picture of the track."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from sanslabel.errors import BadInput
from sanslabel.inputs import InputSpec
from sanslabel.randomness import Stream, bits, fold
from sanslabel.sources.order import Grouped, Order
from sanslabel.sources.source import Loaded, Replaced, Request, Source

if TYPE_CHECKING:
    from sanslabel.sources.images import ImagesFrom


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs(Source):
    """The samples of `base`, each with another sample of its group as the signal "partner".

    The partner is drawn from the sample's key, uniformly among the samples of the group that are at most `reach` places
    away. Places are counted in the order of the group's rows. A sample without such a neighbor is its own partner, as
    is every sample if `reach` is 0. Views of odd streams are drawn from partners, so that every method of two views
    learns from pairs.
    """

    base: Source
    group: Tensor  # pyright: ignore[reportGeneralTypeIssues]
    """(N,) int64, the clip, track or document of each sample"""
    reach: int
    name: str = field(init=False)
    split: str = field(init=False)
    labels: Tensor = field(init=False)
    classes: tuple[str, ...] = field(init=False)
    inputs: Mapping[str, InputSpec] = field(init=False)

    def __post_init__(self) -> None:
        if self.reach < 0:
            raise BadInput(f"reach {self.reach}: must be 0 or more.")
        if self.group.shape != self.base.labels.shape:
            raise BadInput(
                f"{self.base.name}: {len(self.group)} groups for {len(self.base)} samples; give each sample its group."
            )
        for name in ("name", "split", "labels", "classes", "remarks", "no_labels", "labels_sha256", "skip_unreadable"):
            object.__setattr__(self, name, getattr(self.base, name))
        object.__setattr__(self, "inputs", {**self.base.inputs, "partner": self.base.inputs["image"]})

    @property
    def resident(self) -> bool:
        return self.base.resident

    @property
    def nbytes(self) -> int:
        return self.base.nbytes

    @property
    def decodes(self) -> bool:
        return self.base.decodes

    @property
    def pictures(self) -> ImagesFrom | None:
        return self.base.pictures

    def with_pictures(self, pictures: ImagesFrom) -> Self:
        return replace(self, base=self.base.with_pictures(pictures))

    @cached_property
    def fingerprint(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        digest = hashlib.sha256(f"{self.base.fingerprint} {self.reach} ".encode())
        digest.update(self.group.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    @property
    def order(self) -> Order:
        """Returns the order in which no batch has two samples of a group if there are enough batches, see `Grouped`."""
        return Grouped(self.group)

    def id(self, index: int) -> str:
        return self.base.id(index)

    def subset(self, index: Tensor) -> Self:
        return replace(self, base=self.base.subset(index), group=self.group[index])

    def to(self, device: torch.device) -> Self:
        return replace(self, base=self.base.to(device))

    def load(self, request: Request) -> Loaded:
        loaded = self.base.load(request)
        index = loaded.index.cpu()
        wanted = self.partners(index, request.key)
        partners = self.base.load(Request(wanted, request.key))
        if not torch.equal(got := partners.index.cpu(), wanted):
            # The source replaces an unreadable partner by an unrelated sample; the sample itself is a better partner.
            again = self.base.load(Request(torch.where(got == wanted, wanted, index), request.key))
            partners = again._replace(replaced=partners.replaced)
        replaced: list[Replaced] = loaded.replaced + partners.replaced
        return Loaded(loaded.index, {**loaded.signals, "partner": partners.images}, replaced)

    def partners(self, index: Tensor, key: int) -> Tensor:
        """Returns the row of each sample's partner, drawn with an epoch's key: rows (n,) -> (n,) int64."""
        by_group, place, begin, end = self._neighbors
        here = place[index]
        low, high = torch.maximum(here - self.reach, begin[index]), torch.minimum(here + self.reach, end[index])
        keys = fold(fold(torch.full_like(index, key), index), Stream.PARTNER)
        # Any place from low to high except the sample's own: draws from its own place on move up by one.
        drawn = low + ((bits(keys, 1, 0)[:, 0] * (high - low)) >> 32)
        drawn = drawn + (drawn >= here)
        return by_group[torch.where(high > low, drawn, here)]

    @cached_property
    def _neighbors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns the rows sorted by group, and for each row its place in that order and its group's first and last
        place."""
        by_group = torch.argsort(self.group, stable=True)
        _, sizes = torch.unique_consecutive(self.group[by_group], return_counts=True)
        last = (sizes.cumsum(0) - 1).repeat_interleave(sizes)
        first = last - (sizes - 1).repeat_interleave(sizes)
        place = torch.empty_like(by_group)
        place[by_group] = torch.arange(len(by_group))
        return by_group, place, first[place], last[place]
