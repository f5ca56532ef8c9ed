"""Memories that methods keep between steps: modules made of buffers, and of weights that no gradient reaches.

Everything that is written to a memory was gathered from all processes before, and is written after the yield.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.modules.batchnorm import _BatchNorm

from sanslabel.randomness import integers


def teacher_of(student: nn.Module) -> nn.Module:
    """Returns a copy of the student that no gradient reaches; `follow_` moves it. It runs in training mode, with
    BatchNorm statistics of its own, as the momentum encoders of MoCo and BYOL do."""
    return deepcopy(student).requires_grad_(False)


def add_teacher_(net: nn.Module, momentum: float | None) -> None:
    """Gives the networks a teacher, a copy of all networks added so far; does nothing if the momentum is None."""
    if momentum is not None:
        net.teacher = teacher_of(net)


def follow_(net: nn.Module, momentum: float | None) -> None:
    """Moves the networks' teacher toward them, by `ema_`; does nothing if the momentum is None."""
    if momentum is not None:
        ema_(net.get_submodule("teacher"), net, momentum)


@torch.no_grad()
def ema_(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Moves a teacher: teacher <- momentum · teacher + (1 - momentum) · student, for each of the teacher's parameters
    and the student's of the same name. A momentum of 1 leaves the teacher as it is; 0 copies the student."""
    names, parameters = zip(*teacher.named_parameters(), strict=True)
    torch._foreach_lerp_(parameters, [student.get_parameter(name) for name in names], 1 - momentum)


@contextmanager
def without_statistics(module: nn.Module) -> Iterator[None]:
    """Context manager for a pass that does not change BatchNorm's running statistics, such as a pass that is repeated
    to save memory."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    live = [m._buffers for m in norms]
    for m, buffers in zip(norms, live, strict=True):
        m._buffers = {name: None if b is None else b.clone() for name, b in buffers.items()}
    try:
        yield
    finally:
        for m, buffers in zip(norms, live, strict=True):
            m._buffers = buffers


@contextmanager
def filling(net: nn.Module) -> Iterator[None]:
    """Context manager for a pass that only fills a memory. It has no gradient and does not change BatchNorm's running
    statistics, since without a loss nothing would refuse values that are not finite."""
    with torch.no_grad(), without_statistics(net):
        yield


class Frozen(nn.Module):
    """A given network in evaluation mode, which no gradient reaches. Like data, it is an input of the run. It moves
    between devices with the networks around it, but is not part of their state, and no checkpoint contains it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._given = (network.requires_grad_(False).eval(),)  # a module in a tuple is not registered as a child

    @property
    def network(self) -> Any:
        """Returns the given network."""
        return self._given[0]

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self.network._apply(fn, recurse)
        return super()._apply(fn, recurse)

    @torch.no_grad()
    def forward(self, *args: Any, **options: Any) -> Any:
        return self.network(*args, **options)


class Queue(nn.Module):
    """The last `length` embeddings, of unit length, first in, first out; random directions at first (He et al. 2020,
    section 3.2)."""

    embeddings: Tensor
    cursor: Tensor

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("embeddings", normalize(torch.randn(length, width), dim=1))  # (K, D)
        self.register_buffer("cursor", torch.zeros((), dtype=torch.int64))  # index of the oldest embedding

    @torch.no_grad()
    def push_(self, z: Tensor) -> None:
        """Replaces the oldest embeddings by z, (N, D). If N is above K, the last K of z stay."""
        z = normalize(z.to(self.embeddings.dtype)[-len(self.embeddings) :], dim=1)
        index = (self.cursor + torch.arange(len(z), device=z.device)) % len(self.embeddings)
        self.embeddings.index_copy_(0, index, z)
        self.cursor.copy_((self.cursor + len(z)) % len(self.embeddings))


class Bank(nn.Module):
    """The last embedding of every sample, of unit length; random directions at first (Wu et al. 2018, section 3.2)."""

    embeddings: Tensor

    def __init__(self, samples: int, width: int) -> None:
        super().__init__()
        self.register_buffer("embeddings", normalize(torch.randn(samples, width), dim=1))  # (n, D)

    def random_index(self, key: Tensor, count: int, stream: int) -> Tensor:
        """Returns indexes of embeddings, drawn uniformly with replacement: (N,) keys -> (N, count) int64."""
        return integers(key, count, len(self.embeddings), stream)

    @torch.no_grad()
    def write_(self, index: Tensor, z: Tensor, momentum: float = 0.0) -> None:
        """Writes m[index] <- n(momentum · m[index] + (1 - momentum) · n(z)), where n normalizes.

        Embeddings that are not finite are skipped, since nothing else would refuse them where a memory is filled
        without a loss. A batch can contain a sample twice, in place of a sample that cannot be read. The first then
        counts; otherwise the order of writing would decide.

        index: (N,) int64; z: (N, D).
        """
        z = z[_first(index)]
        old = self.embeddings[index]
        new = normalize(torch.lerp(normalize(z.to(old.dtype), dim=1), old, momentum), dim=1)
        self.embeddings.index_copy_(0, index, torch.where(new.isfinite().all(dim=1, keepdim=True), new, old))


def _first(index: Tensor) -> Tensor:
    """Returns for each entry the position of its first occurrence: (N,) -> (N,) int64. It sorts, which takes 0.2 ms at
    N = 4,096; comparing all pairs takes 37 ms."""
    ordered, order = index.sort(stable=True)
    return order[torch.searchsorted(ordered, index)]


class Center(nn.Module):
    """A running mean of logits over batches, 0 at first (Caron et al. 2021, eq. 4)."""

    mean: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))

    @torch.no_grad()
    def update_(self, logits: Tensor, momentum: float = 0.9) -> None:
        """Updates mean <- momentum · mean + (1 - momentum) · mean of the logits (N, K)."""
        self.mean.lerp_(logits.to(self.mean.dtype).mean(dim=0), 1 - momentum)
