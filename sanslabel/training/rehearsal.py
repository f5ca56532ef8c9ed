"""A rehearsal of a run: a few real steps on a few samples, which measure the time and memory that a step takes here.

It leaves no trace: nothing is written, and the states of the random generators are restored.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self, cast
from warnings import catch_warnings, simplefilter

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from sanslabel.batch import Batch, Clock, Images, Labels, Signal, map_signal
from sanslabel.distributed import gather_objects, local_slice
from sanslabel.engine import Record, optimize
from sanslabel.inputs import DECODE_FACTOR
from sanslabel.methods.method import Method
from sanslabel.randomness import fold, permutation
from sanslabel.recipe import Recipe
from sanslabel.run_config import Plan
from sanslabel.sources import Source
from sanslabel.sources.source import Loaded, Request
from sanslabel.training.determinism import reproducible
from sanslabel.training.disk_space import checkpoint_bytes
from sanslabel.training.peak import PeakMemory
from sanslabel.training.session import Session, open_session

READ = 12
"""number of samples that a rehearsal reads"""
REMEMBERED = 1 << 14
"""most samples that a rehearsal pretends to have: memories of every sample are made for so many"""
SMALLEST, GROWTH = 8, 4
"""samples in the first step of a rehearsal, and the factor from one size of step to the next"""
LONG = 0.25
"""seconds; a rehearsal tries no larger step after one that took so long"""
REPEATS = 2
"""steps of each size that are timed, the fastest of which counts"""
LATER = 1000
"""the step from which the clock of a rehearsal runs, the first of its second epoch"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Excerpt(Source):
    """A few samples of a source in memory, which stand for many: row r is the sample r modulo their number."""

    signals: Mapping[str, Signal]
    """the signals by name, of a few samples each"""
    read_in: float
    """seconds that reading one sample took"""
    decode_factor: float = DECODE_FACTOR
    """the side of decoded pictures, as a factor of the training side"""

    @classmethod
    def of(cls, source: Source) -> Self:
        """Returns a fixed random excerpt of a source. Raises BadInput if its samples cannot be read."""
        index = permutation(0, len(source))[:READ]
        began = time.perf_counter()
        loaded = source.load(Request(index))
        seconds = (time.perf_counter() - began) / len(index)
        number = torch.arange(min(len(source), REMEMBERED))
        row = number % len(index)
        return cls(
            name=source.name,
            split=source.split,
            labels=source.labels[loaded.index.cpu()][row],
            classes=source.classes,
            inputs=source.inputs,
            group=None if source.group is None else number // len(index),
            time=None if source.time is None else 0.1 * row.double(),
            signals=loaded.signals,
            read_in=seconds if source.decodes else 0.0,
            decode_factor=DECODE_FACTOR if source.pictures is None else source.pictures.decode_factor,
        )

    @property
    def resident(self) -> bool:
        return True

    @property
    def fingerprint(self) -> str:
        return ""

    def id(self, index: int) -> str:
        return str(index)

    def load(self, request: Request) -> Loaded:
        count = len(next(iter(self.signals.values()))[0])  # pyright: ignore[reportArgumentType]
        row = request.index % count
        chosen = {n: map_signal(cast(Any, s), lambda t: t.index_select(0, row)) for n, s in self.signals.items()}
        return Loaded(request.index, chosen, [])

    def subset(self, index: Tensor) -> Self:
        group, time = (None if x is None else x[index] for x in (self.group, self.time))
        return replace(self, labels=self.labels[index], group=group, time=time)

    def to(self, device: torch.device) -> Self:
        moved = {n: map_signal(cast(Any, s), lambda t: t.to(device)) for n, s in self.signals.items()}
        return replace(self, signals=moved)

    def at_size(self, size: int) -> Self:
        """Returns the excerpt with pictures reduced to what a run at this size would decode."""
        side = round(size * self.decode_factor)
        reduced = {n: _reduced(s, side) if isinstance(s, Images) else s for n, s in self.signals.items()}
        unchanged = all(reduced[name] is self.signals[name] for name in reduced)
        return self if unchanged else replace(self, signals=reduced)


def _reduced(images: Images, side: int) -> Images:
    """Returns images whose canvas has at most `side` pixels on its shorter side."""
    factor = side / min(images.pixels.shape[2:])
    if factor >= 1:
        return images
    small = interpolate(images.pixels, scale_factor=factor, mode="nearest-exact")
    limits = torch.tensor(small.shape[2:])
    return Images(small, None if images.sizes is None else (images.sizes * factor).long().clamp_min(1).minimum(limits))


class Measured(NamedTuple):
    """The time and memory of a plan's steps."""

    step: float
    """seconds of a step, besides those of its samples"""
    sample: float
    """seconds for each sample of a step"""
    step_bytes: int
    """bytes of a step, besides those of its samples"""
    sample_bytes: int
    """bytes for each sample of a step"""
    weights: int
    """bytes of the networks and of the state of their optimizers"""


def measured(plan: Plan, method: Method, recipe: Recipe, excerpt: Excerpt) -> Measured:
    """Returns the time and memory of a plan's steps, measured on an excerpt of the data.

    Steps grow until one takes LONG, or has as many samples as the plan's. If several processes train together, all of
    them call this function, and the slowest counts. Raises BadInput if method, encoder and data do not fit together.
    """
    device = torch.device(plan.device)
    plan = replace(plan, compile=False, sharding="replicate", weights=None)
    sizes, seconds, taken = list[int](), list[float](), list[int]()
    with reproducible(device, saves_memory=plan.chunk is not None or plan.recompute), catch_warnings():
        simplefilter("ignore")
        session = open_session(Path(), plan, method, recipe, excerpt)
        size = min(SMALLEST * plan.world_size, plan.batch)
        list(_steps(session, size, device, 1))  # makes the state of the optimizers, which counts with the weights
        while not sizes or (size > sizes[-1] and max(gather_objects([seconds[-1]])) < LONG):
            sizes.append(size)
            taken.append(_step_bytes(session, size, device))
            seconds.append(min(_step_seconds(session, size, device, REPEATS)))
            size = min(size * GROWTH, plan.batch)
        weights = checkpoint_bytes(session.net, session.players)
        gradients = sum(parameter.nbytes for player in session.players.values() for parameter in player.parameters)
        del session
    step, sample = fitted(sizes, seconds)
    step_bytes, sample_bytes = fitted(sizes, taken, gradients)
    figures = gather_objects([(step, sample, step_bytes, sample_bytes)])
    step, sample, step_bytes, sample_bytes = max(figures, key=lambda known: known[0] + known[1] * plan.batch)
    return Measured(step, sample, round(step_bytes), round(sample_bytes), weights)


def fitted(sizes: Sequence[int], values: Sequence[float], known: float = 0.0) -> tuple[float, float]:
    """Returns the constant and the slope of the line through the last two points, both at least 0.

    With one point, the constant is `known`, or less if the value is.
    """
    (size, value), (before, lower) = (sizes[-1], values[-1]), (sizes[-2:][0], values[-2:][0])
    slope = (value - lower) / (size - before) if size > before else (value - known) / size
    slope = min(max(slope, 0.0), value / size)
    return value - slope * size, slope


def _step_bytes(session: Session, size: int, device: torch.device) -> int:
    """Returns the bytes that a step takes at its peak, besides networks and optimizers. The step also warms up what
    torch does once for each shape."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        list(_steps(session, size, device, 1))
        return torch.cuda.max_memory_allocated(device) - before
    with PeakMemory() as memory:
        list(_steps(session, size, device, 1))
    return memory.peak


def _step_seconds(session: Session, size: int, device: torch.device, count: int) -> list[float]:
    """Returns the seconds that each of some steps takes."""
    seconds = []
    steps = _steps(session, size, device, count)
    for _ in range(count):
        began = time.perf_counter()
        next(steps)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return seconds


def _steps(session: Session, size: int, device: torch.device, count: int) -> Iterator[Record]:
    """Returns the records of some steps with `size` samples, from the second epoch of a long run, since a few methods
    do not train in the first one."""
    clocks = (Clock(0, 1, LATER + step, 100 * LATER, LATER) for step in range(count))
    index = local_slice(torch.arange(size) % len(session.source))
    source = session.source.to(device)
    stream = ((clock, _batch(source, index.to(device))) for clock in clocks)
    return optimize(session.method, session.net, session.players, stream, getattr(torch, session.plan.precision))


def _batch(source: Source, index: Tensor) -> Batch:
    labels: dict[str, Signal] = {"label": Labels(source.labels.to(index.device).index_select(0, index))}
    signals = labels | dict(source.load(Request(index)).signals)
    group, time = (
        None if x is None else x.to(index.device).index_select(0, index) for x in (source.group, source.time)
    )
    return Batch(index, fold(torch.full_like(index, 0), index), signals, group, time)
