"""Orders of samples: which samples an epoch has, and in which order, is a function of (seed, epoch)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from sanslabel.randomness import Stream, fold, integers, permutation


class Order(Protocol):
    """An order of samples, in which each epoch can be computed without the epochs before it."""

    @property
    def samples(self) -> int:
        """Returns the number of samples in an epoch, before its last partial batch is left out."""
        ...

    def epoch(self, seed: int, epoch: int, batch: int) -> Tensor:
        """Returns the rows of an epoch, (steps * batch,) int64: the first `batch` are the first global batch."""
        ...


@dataclass(frozen=True)
class Shuffled:
    """Every sample once, in an order that is drawn anew for each epoch."""

    samples: int

    def epoch(self, seed: int, epoch: int, batch: int) -> Tensor:
        """Returns the rows of an epoch, (steps * batch,) int64."""
        return permutation(fold(seed, Stream.ORDER, epoch), self.samples)[: self.samples // batch * batch]


@dataclass(frozen=True, eq=False)
class Grouped:
    """Every sample once. No batch has two samples of a group unless the group has more samples than there are batches.

    The samples of an epoch are those of `Shuffled`. If every sample is a group of its own, the order is that of
    `Shuffled`, too. Otherwise samples are dealt out like cards, one group after the other. In each round every batch
    gets one card, and the order of the batches is drawn anew.
    """

    group: Tensor
    """(N,) int64, the group of each sample"""

    @property
    def samples(self) -> int:
        return len(self.group)

    def epoch(self, seed: int, epoch: int, batch: int) -> Tensor:
        """Returns the rows of an epoch, (steps * batch,) int64."""
        shuffled, steps = Shuffled(self.samples).epoch(seed, epoch, batch), self.samples // batch
        _, group, sizes = self.group[shuffled].unique(return_inverse=True, return_counts=True)
        if len(sizes) == len(shuffled):
            return shuffled
        first = torch.full_like(sizes, len(shuffled)).scatter_reduce(0, group, torch.arange(len(shuffled)), "amin")
        place = torch.argsort(first[group], stable=True)  # groups by first place, each in its shuffled order
        cards, group = shuffled[place].view(batch, steps), group[place].view(batch, steps)
        dealt, key, before = torch.empty(steps, batch, dtype=torch.int64), fold(seed, Stream.ORDER, epoch, 0), None
        for turn in range(batch):
            players = permutation(fold(key, turn), steps)  # the batch that gets each card of this round
            if before is not None:
                # If the last round began this group, its next samples go to batches that have none of it yet.
                begun = int((group[turn - 1] == group[turn, 0]).sum())
                rest = int((group[turn] == group[turn, 0]).sum())
                if begun and begun + rest <= steps:
                    taken = torch.zeros(steps, dtype=torch.bool)
                    taken[before[-begun:]] = True
                    free = (~taken[players]).nonzero()[:rest, 0]
                    others = torch.ones(steps, dtype=torch.bool)
                    others[free] = False
                    players = torch.cat([players[free], players[others]])
            dealt[players, turn] = cards[turn]
            before = players
        return dealt.flatten()


@dataclass(frozen=True, eq=False)
class Stretches:
    """Every sample once, in stretches of `length` samples of a group that follow each other in time.

    Each epoch cuts every group at places that are drawn anew, and shuffles the stretches. Full stretches come first, so
    that a batch of a multiple of `length` has only full ones. The shorter ends of groups follow.
    """

    group: Tensor
    """(N,) int64, the group of each sample"""
    time: Tensor
    """(N,) float64, the time of each sample within its group"""
    length: int

    @property
    def samples(self) -> int:
        return len(self.group)

    def epoch(self, seed: int, epoch: int, batch: int) -> Tensor:
        """Returns the rows of an epoch, (steps * batch,) int64."""
        key = fold(seed, Stream.ORDER, epoch)
        in_time, group, place = self._places
        offset = integers(fold(torch.full_like(group, key), group), 1, self.length, 0)[:, 0]
        stretch = (place + offset) // self.length  # within the group, whose first stretch may be short
        _, sizes = torch.unique_consecutive(torch.stack([group, stretch]), dim=1, return_counts=True)
        shuffled = torch.argsort(permutation(fold(key, 0), len(sizes)))  # the place of each stretch
        rank = (shuffled + len(sizes) * (sizes < self.length)).repeat_interleave(sizes)
        return in_time[torch.argsort(rank, stable=True)][: self.samples // batch * batch]

    @cached_property
    def _places(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the rows sorted by group and time, and the number of each one's group and its place within."""
        in_time = torch.argsort(self.time, stable=True)
        in_time = in_time[torch.argsort(self.group[in_time], stable=True)]
        _, group, sizes = torch.unique_consecutive(self.group[in_time], return_inverse=True, return_counts=True)
        first = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
        return in_time, group, torch.arange(len(in_time)) - first


@dataclass(frozen=True, eq=False)
class ByLength:
    """Every sample once, in batches of similar length, which need little padding. The batches come in random order.

    The samples of an epoch are those of `Shuffled`. They are sorted by length, those of one length at random, cut into
    batches, and the batches are shuffled.
    """

    length: Tensor
    """(N,) int64, the length of each sample, in any unit"""

    @property
    def samples(self) -> int:
        return len(self.length)

    def epoch(self, seed: int, epoch: int, batch: int) -> Tensor:
        """Returns the rows of an epoch, (steps * batch,) int64."""
        shuffled = Shuffled(self.samples).epoch(seed, epoch, batch)
        batches = shuffled[torch.argsort(self.length[shuffled], stable=True)].view(-1, batch)
        return batches[permutation(fold(seed, Stream.ORDER, epoch, 0), len(batches))].flatten()


@dataclass(frozen=True, eq=False)
class Windowed:
    """Every sample once, in an order that reads only `window` shards at a time.

    The shards come in an order that is drawn anew for each epoch, and the samples of `window` shards are shuffled
    together.
    """

    shard: Tensor
    """(N,) int64, the shard of each sample, from 0 on"""
    window: int

    @property
    def samples(self) -> int:
        return len(self.shard)

    def epoch(self, seed: int, epoch: int, batch: int) -> Tensor:
        """Returns the rows of an epoch, (steps * batch,) int64."""
        key = fold(seed, Stream.ORDER, epoch)
        shuffled = permutation(key, self.samples)
        place = torch.argsort(permutation(fold(key, 0), int(self.shard.max()) + 1))  # of each shard in the drawn order
        window = place[self.shard[shuffled]] // self.window
        return shuffled[torch.argsort(window, stable=True)][: self.samples // batch * batch]


@dataclass(frozen=True)
class Counted:
    """Samples of a stream in its own order. Each epoch continues after the last one; rows count from the stream's
    start."""

    samples: int
    """samples that make an epoch"""

    def epoch(self, seed: int, epoch: int, batch: int) -> Tensor:
        """Returns the rows of an epoch, (steps * batch,) int64; the seed changes nothing."""
        begin, length = epoch * self.samples, self.samples // batch * batch
        return torch.arange(begin, begin + length)
