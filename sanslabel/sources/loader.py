"""Batches in an order that depends only on the seed and the epoch, so that a run can resume at any step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import tee
from typing import Any, cast

import torch
from torch import Tensor

from sanslabel import distributed
from sanslabel.batch import Batch, Clock, Labels, Signal, map_signal
from sanslabel.device import to_device
from sanslabel.errors import BadInput
from sanslabel.randomness import Stream, fold
from sanslabel.sources.order import Order
from sanslabel.sources.source import Loaded, Request, Source
from sanslabel.sources.workers import load_ahead, load_each

RESIDENT = 4 << 30
"""bytes up to which samples in memory are kept on the training device"""
LISTED = 10
"""names of bad samples that an error lists"""
Report = Callable[[str, str], None]
"""a function that is called with the id of a bad sample and the reason"""


def batches(
    source: Source,
    batch: int,
    *,
    seed: int,
    epochs: int,
    start: int = 0,
    workers: int = 0,
    device: torch.device,
    steps_per_epoch: int | None = None,
    report: Report | None = None,
    order: Order | None = None,
) -> Iterator[tuple[Clock, Batch]]:
    """Returns this process's slices of the global batches, from step `start` of the run on.

    `order` defines an epoch, by default the source's own order; a last partial batch is left out. If `steps_per_epoch`
    is given, an epoch is cut to this number of batches. A `batch` larger than the epoch is reduced to the epoch's size.
    The number of `workers`, the processes that load samples, does not change the batches. `report` is called once for
    each bad sample.

    Raises BadInput if the processes cannot share a batch equally and, during iteration, if over 1 % of the samples are
    bad.
    """
    order, processes = order or source.order, distributed.world_size()
    if batch < 1 or batch % processes:
        raise BadInput(f"--batch {batch} cannot be shared by {processes} processes; give a multiple of {processes}.")
    if order.samples < processes:
        raise BadInput(f"{source.name} has {order.samples} samples for {processes} processes; start fewer processes.")
    batch = min(batch, order.samples // processes * processes)
    full = order.samples // batch
    steps = _steps(order, batch, seed, epochs, start, min(steps_per_epoch or full, full))
    return _batches(source, order.samples, steps, device, workers, report)


def ordered(source: Source, batch: int, *, device: torch.device, workers: int = 0) -> Iterator[Batch]:
    """Returns every sample once, in the source's order, on each process; the last batch has the remaining samples."""
    requested = (Request(index, fold(0, 0, 0)) for index in torch.arange(len(source)).split(batch))
    loaded = _loaded(source, len(source), requested, device, workers, None)
    batch_of = _Batches(source, device)
    return (batch_of(samples, fold(0, 0, 0)) for samples in loaded)


def _steps(
    order: Order, batch: int, seed: int, epochs: int, start: int, per_epoch: int
) -> Iterator[tuple[Clock, Request]]:
    """Yields the clock of each step and this process's samples."""
    current, index = -1, torch.empty(0)
    for step in range(start, epochs * per_epoch):
        epoch, position = divmod(step, per_epoch)
        if epoch != current:
            current, index = epoch, order.epoch(seed, epoch, batch)
        of_all = index[position * batch : (position + 1) * batch]
        clock = Clock(seed, epoch, step, epochs * per_epoch, per_epoch)
        yield clock, Request(distributed.local_slice(of_all), fold(seed, Stream.SAMPLE, epoch), of_all)


def _batches(
    source: Source,
    samples: int,
    steps: Iterator[tuple[Clock, Request]],
    device: torch.device,
    workers: int,
    report: Report | None,
) -> Iterator[tuple[Clock, Batch]]:
    batch_of = _Batches(source, device)
    steps, ahead = tee(steps)  # workers receive the requests of later steps in advance
    requested = (request for _, request in ahead)
    loaded = _loaded(source, samples, requested, device, workers, report)
    for (clock, request), samples_of_step in zip(steps, loaded, strict=True):
        yield clock, batch_of(samples_of_step, request.key)


class _Batches:
    """A function that turns loaded samples into batches, with the source's labels, groups and times on the device."""

    def __init__(self, source: Source, device: torch.device) -> None:
        self.labels = None if source.samples is None else source.labels.to(device)
        self.group = None if source.group is None else source.group.to(device)
        dtype = torch.float32 if device.type == "mps" else torch.float64  # which MPS lacks
        self.time = None if source.time is None else source.time.to(device, dtype)

    def __call__(self, loaded: Loaded, key: int) -> Batch:
        """Returns the batch of samples that were loaded for an epoch's key."""
        index = loaded.index
        labels: dict[str, Signal] = {} if self.labels is None else {"label": Labels(self.labels.index_select(0, index))}
        group = None if self.group is None else self.group.index_select(0, index)
        time = None if self.time is None else self.time.index_select(0, index)
        keys, signals = fold(torch.full_like(index, key), index), labels | dict(loaded.signals)
        return Batch(index, keys, signals, group, time, loaded.partner)


def _loaded(
    source: Source,
    samples: int,
    requested: Iterator[Request],
    device: torch.device,
    workers: int,
    report: Report | None,
) -> Iterator[Loaded]:
    """Yields the samples of each request, on the device. Raises BadInput if over 1 % of `samples` cannot be read."""
    if source.resident:
        there = source.to(device) if source.nbytes <= RESIDENT else source
        stream = map(there.load, requested)
    else:
        stream = load_each(source, requested, workers) if source.decodes else load_ahead(source, requested)
    bad: dict[str, str] = {}
    for loaded in stream:
        for _, name, reason in loaded.replaced:
            if name not in bad:
                bad[name] = reason
                if report:
                    report(name, reason)
                if len(bad) > source.tolerated(samples // distributed.world_size()):  # of this process's share
                    raise BadInput(
                        f"{source.name}: more than 1 % of the {samples} samples cannot be read: {_listed(list(bad))}"
                        f" (the last one: {reason}); add --skip-unreadable to go on without them, or remove or mend"
                        " them."
                    )
        yield loaded._replace(
            index=_moved(loaded.index, device),
            signals=_signals_moved(loaded.signals, device),
            partner=None if loaded.partner is None else _moved(loaded.partner, device),
        )


def _listed(names: list[str]) -> str:
    """Returns the names as text, of many only the last."""
    more = f"{len(names) - LISTED:,} others and " if len(names) > LISTED else ""
    return more + ", ".join(names[-LISTED:])


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Returns the tensor on the device. Memory cannot be pinned for a tensor that is already there."""
    return tensor if tensor.device.type == device.type else to_device(tensor, device)


def _signals_moved(signals: Mapping[str, Signal], device: torch.device) -> dict[str, Signal]:
    return {
        name: map_signal(cast(Any, signal), lambda tensor: _moved(tensor, device)) for name, signal in signals.items()
    }
