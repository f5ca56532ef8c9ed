"""Samples with a partner of the same group: another frame of the clip, another picture of the track."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Self, cast

import torch
from torch import Tensor

from sanslabel.errors import BadInput
from sanslabel.inputs import InputSpec
from sanslabel.randomness import Stream, bits, fold
from sanslabel.sources.source import Loaded, Replaced, Request, Source, describe_

if TYPE_CHECKING:
    from sanslabel.sources.pictures.images import ImagesFrom


EXACT = 1e-6
"""seconds by which two times may be farther apart than `near`, since fractions of a second are rounded"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs(Source):
    """The samples of `base`, each with another sample of its group as the signal "partner".

    The partner is drawn from the sample's key, uniformly among the other samples of the group that are at most `near`
    seconds away. A sample without such a neighbor is its own partner, as is every sample if `near` is 0. Views of odd
    streams are drawn from partners, so that every method of two views learns from pairs.
    """

    base: Source
    """a source with a group and a time for each sample"""
    near: float
    """seconds, 0 or more"""
    name: str = field(init=False)
    split: str = field(init=False)
    labels: Tensor = field(init=False)
    classes: tuple[str, ...] = field(init=False)
    inputs: Mapping[str, InputSpec] = field(init=False)
    group: Tensor | None = field(init=False, default=None)
    time: Tensor | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        base = self.base
        if not self.near >= 0:
            raise BadInput(f"near {self.near}: must be 0 or more.")
        if base.group is None or base.time is None:
            raise BadInput(
                f"{base.name}: --near needs samples that have a time, as frames of videos have; leave it out."
            )
        for name, given in (("groups", base.group), ("times", base.time)):
            if given.shape != base.labels.shape:
                raise BadInput(f"{base.name}: {len(given)} {name} for {len(base)} samples; give each sample one.")
        describe_(self, base)
        object.__setattr__(self, "remarks", base.remarks)
        object.__setattr__(self, "inputs", {**base.inputs, "partner": base.inputs["image"]})

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

    @property
    def fingerprint(self) -> str:
        return self.base.fingerprint

    def id(self, index: int) -> str:
        return self.base.id(index)

    def subset(self, index: Tensor) -> Self:
        return replace(self, base=self.base.subset(index))

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
        return Loaded(loaded.index, {**loaded.signals, "partner": partners.images}, replaced, partners.index)

    @property
    def alone(self) -> int:
        """Returns the number of samples that are their own partners, since no other one is near."""
        _, _, first, last = self._neighbors
        return int((first == last).sum())

    def partners(self, index: Tensor, key: int) -> Tensor:
        """Returns the row of each sample's partner, drawn with an epoch's key: rows (n,) -> (n,) int64."""
        in_order, place, first, last = self._neighbors
        here, low, high = place[index], first[index], last[index]
        keys = fold(fold(torch.full_like(index, key), index), Stream.PARTNER)
        # Any place from low to high except the sample's own: draws from its own place on move up by one.
        drawn = low + ((bits(keys, 1, 0)[:, 0] * (high - low)) >> 32)
        drawn = drawn + (drawn >= here)
        return in_order[torch.where(high > low, drawn, here)]

    @cached_property
    def _neighbors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns the rows sorted by group and time, and for each row its place in that order and the first and the
        last place that its partner may have."""
        group, time = (cast(Tensor, tensor).cpu() for tensor in (self.group, self.time))
        in_order = torch.argsort(time, stable=True)
        in_order = in_order[torch.argsort(group[in_order], stable=True)]
        place = torch.empty_like(in_order)
        place[in_order] = torch.arange(len(in_order))
        if self.near == 0:
            return in_order, place, place, place
        # Group and rank of the time are put together to one whole number, which is searched for.
        times, rank = time.unique(return_inverse=True)
        earliest = torch.searchsorted(times, time - self.near - EXACT)
        latest = torch.searchsorted(times, time + self.near + EXACT, right=True) - 1
        _, number = group.unique(return_inverse=True)
        begin = number * len(times)
        ordered = (begin + rank)[in_order]
        first = torch.searchsorted(ordered, begin + earliest)
        last = torch.searchsorted(ordered, begin + latest, right=True) - 1
        return in_order, place, first, last


def paired(source: Source, near: float | None) -> Source:
    """Returns the source with partners that are at most `near` seconds away. For None and 0 it is the source itself. A
    remark states how many samples have none. Raises BadInput if the samples have no time, or if all have none."""
    if not near:
        return source
    source = source.with_varied_boxes()
    pairs = Pairs(base=source, near=near)
    alone = pairs.alone
    if alone == len(source):
        raise BadInput(f"--near {near:g}: no sample of {source.name} has another one so near; give a longer time.")
    if not alone:
        return pairs
    remark = f"Without another sample within {near:g} s, and so their own partners: {alone:,} of {len(source):,}."
    return Pairs(base=replace(source, remarks=(*source.remarks, remark)), near=near)
