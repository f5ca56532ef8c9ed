"""Batches in an order that is a function of the seed and the epoch, so that any step can be continued from."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from itertools import tee
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sanslabel import distributed
from sanslabel.batch import Batch, Clock
from sanslabel.errors import BadInput
from sanslabel.randomness import fold, permutation
from sanslabel.sources.arrays import Arrays
from sanslabel.sources.source import Loaded, Source, tolerated

RESIDENT = 4 << 30
"""bytes up to which images in memory are kept on the device that trains"""
Report = Callable[[str, str], None]
"""called with the id of a bad sample and the reason"""


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
) -> Iterator[tuple[Clock, Batch]]:
    """This process's slices of the global batches, from step `start` of the run on.

    An epoch is a permutation of the samples without its last partial batch, cut to `steps_per_epoch` where that is
    given; a `batch` larger than the source becomes as large as it. The batches are the same for every number of
    `workers`, the processes that decode files. `report` hears of each bad sample once.

    Raises BadInput for a batch that the processes cannot share, and, on the way, when over 1 % of the samples are bad.
    """
    processes = distributed.world_size()
    if batch < 1 or batch % processes:
        raise BadInput(f"--batch {batch} cannot be shared by {processes} processes; give a multiple of {processes}.")
    if len(source) < processes:
        raise BadInput(f"{source.name} has {len(source)} samples for {processes} processes; start fewer.")
    batch = min(batch, len(source) // processes * processes)
    full = len(source) // batch
    per_epoch = min(steps_per_epoch or full, full)
    return _batches(source, _order(len(source), batch, seed, epochs, start, per_epoch), device, workers, report)


def ordered(source: Source, batch: int, *, device: torch.device, workers: int = 0) -> Iterator[Batch]:
    """Every sample once, in the source's order, on each process; the last batch holds what is left."""
    rows = (torch.arange(begin, min(begin + batch, len(source))) for begin in range(0, len(source), batch))
    labels, key = source.labels.to(device), fold(0, 0, 0)
    for loaded in _loaded(source, rows, device, workers, None):
        yield _batch(loaded, labels, key)


def _order(
    samples: int, batch: int, seed: int, epochs: int, start: int, per_epoch: int
) -> Iterator[tuple[Clock, Tensor]]:
    steps, current, order = epochs * per_epoch, -1, torch.empty(0)
    for step in range(start, steps):
        epoch, position = divmod(step, per_epoch)
        if epoch != current:
            current, order = epoch, permutation(fold(seed, 2, epoch), samples)
        rows = distributed.shard(order[position * batch : (position + 1) * batch])
        yield Clock(seed, epoch, step, steps, per_epoch), rows


def _batches(
    source: Source,
    order: Iterator[tuple[Clock, Tensor]],
    device: torch.device,
    workers: int,
    report: Report | None,
) -> Iterator[tuple[Clock, Batch]]:
    labels = source.labels.to(device)
    clocks, ahead = tee(order)  # workers are sent the rows of later steps already
    for (clock, _), loaded in zip(
        clocks, _loaded(source, (rows for _, rows in ahead), device, workers, report), strict=True
    ):
        yield clock, _batch(loaded, labels, fold(clock.seed, 0, clock.epoch))


def _batch(loaded: Loaded, labels: Tensor, key: int) -> Batch:
    rows = loaded.rows
    keys = fold(torch.full_like(rows, key), rows)
    return Batch(loaded.images, labels.index_select(0, rows), rows, keys, loaded.sizes)


def _loaded(
    source: Source, rows: Iterator[Tensor], device: torch.device, workers: int, report: Report | None
) -> Iterator[Loaded]:
    """The samples of each batch of rows, on the device."""
    if isinstance(source, Arrays):
        images = source.images if source.images.nbytes > RESIDENT else source.images.to(device)
        for chosen in rows:
            picked = images.index_select(0, chosen.to(images.device)).to(device, non_blocking=True)
            yield Loaded(picked, None, [], chosen.to(device))
        return
    bad: set[str] = set()
    lists = (chosen.tolist() for chosen in rows)
    for loaded in _by_workers(source, lists, workers) if workers else map(source.load, lists):
        for _, name, reason in loaded.replaced:
            if name not in bad:
                bad.add(name)
                if report:
                    report(name, reason)
                if len(bad) > tolerated(len(source)):
                    raise BadInput(
                        f"{source.name}: more than 1 % of the {len(source)} images cannot be read, the last of them"
                        f" {name} ({reason}); remove or mend them{', see bad_samples.jsonl' if report else ''}."
                    )
        sizes = None if loaded.sizes is None else loaded.sizes.to(device)
        yield Loaded(loaded.images.to(device, non_blocking=True), sizes, loaded.replaced, loaded.rows.to(device))


class _Rows(Dataset):
    """What a worker process holds."""

    def __init__(self, source: Source):
        self.source = source

    def __getitems__(self, index: list[int]) -> Loaded | BadInput:
        try:
            return self.source.load(index)
        except BadInput as error:
            return error  # raised in a worker, its one sentence would arrive inside a traceback


def _by_workers(source: Source, rows: Iterable[list[int]], workers: int) -> Iterator[Loaded]:
    # Forking a process that has threads can deadlock; a server that has imported torch but not begun to use it cannot.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([__name__, "sanslabel.sources.folder"])  # once, not once a worker: 2 s each
    pool = DataLoader(
        _Rows(source),
        batch_sampler=rows,
        num_workers=workers,
        prefetch_factor=2,
        collate_fn=_unchanged,
        worker_init_fn=_ignore_signals,
        multiprocessing_context=context,
        generator=torch.Generator(),  # else it would draw from the global one, and the workers' number would show
    )
    for loaded in pool:
        if isinstance(loaded, BadInput):
            raise loaded
        yield loaded


def _unchanged(loaded: Any) -> Any:
    return loaded


def _ignore_signals(worker: int) -> None:
    """Ctrl-C and a scheduler's signals reach the whole group; the run finishes its step first, and ends its workers."""
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGUSR1", signal.SIGTERM)):
        signal.signal(number, signal.SIG_IGN)
