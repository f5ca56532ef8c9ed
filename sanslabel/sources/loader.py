"""Batches in an order that is a function of the seed and the epoch, so that any step can be continued from."""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, tee
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sanslabel import distributed
from sanslabel.batch import Batch, Clock
from sanslabel.device import to_device
from sanslabel.errors import BadInput
from sanslabel.randomness import Stream, fold, permutation
from sanslabel.sources.arrays import Arrays
from sanslabel.sources.source import Loaded, Source, tolerated

RESIDENT = 4 << 30
"""bytes up to which images in memory are kept on the device that trains"""
PATIENCE = 30.0
"""seconds without a batch after which the files that are waited for are named"""
DEATHS = 3
"""of worker processes in a row, without a batch in between, that end a run"""
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
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
            current, order = epoch, permutation(fold(seed, Stream.ORDER, epoch), samples)
        rows = distributed.local_slice(order[position * batch : (position + 1) * batch])
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
        yield clock, _batch(loaded, labels, fold(clock.seed, Stream.SAMPLE, clock.epoch))


def _batch(loaded: Loaded, labels: Tensor, key: int) -> Batch:
    rows = loaded.rows
    keys = fold(torch.full_like(rows, key), rows)
    return Batch.of_images(loaded.images, rows, keys, labels.index_select(0, rows), loaded.sizes)


def _loaded(
    source: Source, rows: Iterator[Tensor], device: torch.device, workers: int, report: Report | None
) -> Iterator[Loaded]:
    """The samples of each batch of rows, on the device."""
    if isinstance(source, Arrays):
        images = source.images if source.images.nbytes > RESIDENT else source.images.to(device)
        for chosen in rows:
            there = to_device(chosen, device)
            if images.device == there.device:
                picked = images.index_select(0, there)
            else:
                picked = to_device(images.index_select(0, chosen), device)
            yield Loaded(picked, None, [], there)
        return
    bad: set[str] = set()
    lists = (chosen.tolist() for chosen in rows)
    for loaded in loads(source, lists, workers) if source.decodes else _ahead(source, lists):
        for _, name, reason in loaded.replaced:
            if name not in bad:
                bad.add(name)
                if report:
                    report(name, reason)
                if len(bad) > tolerated(len(source) // distributed.world_size()):  # of this one's share
                    raise BadInput(
                        f"{source.name}: more than 1 % of the {len(source)} images cannot be read, the last of them"
                        f" {name} ({reason}); remove or mend them{', see bad_samples.jsonl' if report else ''}."
                    )
        sizes = None if loaded.sizes is None else to_device(loaded.sizes, device)
        yield Loaded(to_device(loaded.images, device), sizes, loaded.replaced, to_device(loaded.rows, device))


class Reads(Protocol[T_co]):
    """What reads files: a source, or a part of it."""

    @property
    def name(self) -> str: ...
    def id(self, index: int) -> str: ...
    def load(self, index: list[int]) -> T_co: ...


def loads(source: Reads[T], rows: Iterator[list[int]], workers: int) -> Generator[T, None, None]:
    """`source.load` of each list of rows, by so many processes; 0 for this one."""
    return _by_workers(source, rows, workers) if workers else _alone(source, rows)


class _Rows(Dataset, Generic[T]):
    """What a worker process holds."""

    def __init__(self, source: Reads[T]):
        self.source = source

    def __getitems__(self, index: list[int]) -> T | BadInput:
        try:
            return self.source.load(index)
        except BadInput as error:
            return error  # raised in a worker, its one sentence would arrive inside a traceback


def _alone(source: Reads[T], rows: Iterator[list[int]]) -> Generator[T, None, None]:
    for chosen in rows:
        with _patience(source, chosen):
            loaded = source.load(chosen)
        yield loaded


def _ahead(source: Reads[T], rows: Iterator[list[int]]) -> Generator[T, None, None]:
    """As `_alone`, but the next list is read while this one is used, by a thread: copying memory holds up no other. One
    that hangs in a file is left behind."""
    asked, read = SimpleQueue[list[int] | None](), SimpleQueue[T | Exception]()

    def reading() -> None:
        while (chosen := asked.get()) is not None:
            try:
                read.put(source.load(chosen))
            except Exception as error:
                read.put(error)

    threading.Thread(target=reading, daemon=True).start()
    try:
        asked.put(chosen := next(rows, None))
        while chosen is not None:
            with _patience(source, chosen):
                loaded = read.get()
            if isinstance(loaded, Exception):
                raise loaded
            asked.put(chosen := next(rows, None))
            yield loaded
    finally:
        asked.put(None)


def _by_workers(source: Reads[T], rows: Iterator[list[int]], workers: int) -> Generator[T, None, None]:
    """As `source.load` does it, in worker processes. One that dies is told of, and new ones start over from the first
    batch that was not handed over: the order of samples depends on nobody's state."""
    asked: deque[list[int]] = deque()  # of the workers, and not back yet

    def sending(again: Sequence[list[int]]) -> Iterator[list[int]]:
        for chosen in chain(again, rows):
            asked.append(chosen)
            yield chosen

    deaths = 0
    while True:
        again = list(asked)
        asked.clear()
        pool, processes = _begun(source, sending(again), workers)
        try:
            while True:
                with _patience(source, asked[0] if asked else []):
                    loaded = next(pool, None)
                if loaded is None:
                    return
                if isinstance(loaded, BadInput):
                    raise loaded
                asked.popleft()
                deaths = 0
                yield loaded
        except (RuntimeError, OSError, EOFError) as error:
            dead = [process for process in processes if _died(process)]
            if not dead:
                raise
            deaths += 1
            who = f"{source.name}: worker process {', '.join(str(process.pid) for process in dead)} died"
            what = f"while {_named(source, asked[0] if asked else [])} were to be decoded"
            if deaths == DEATHS:
                raise BadInput(
                    f"{who} {what}, the third time in a row ({error}); lower --workers or --batch if memory is short,"
                    " or remove the file that they die of."
                ) from error
            warnings.warn(f"{who} {what}; others go on in its place", stacklevel=2)
        finally:
            for process in processes:  # one that hangs in a file would be waited for
                process.kill()


def _begun(
    source: Reads[T], rows: Iterator[list[int]], workers: int
) -> tuple[Iterator[T], list[multiprocessing.process.BaseProcess]]:
    """What worker processes read, and the processes. None is left behind where starting them is broken off."""
    before = multiprocessing.active_children()
    try:
        pool = iter(_pool(source, rows, workers))
    except BaseException:
        for process in multiprocessing.active_children():
            if process not in before:
                process.kill()
        raise
    return pool, pool._workers  # pyright: ignore[reportAttributeAccessIssue]


def _pool(source: Reads, rows: Iterator[list[int]], workers: int) -> DataLoader:
    # Forking a process that has threads can deadlock; a server that has imported torch but not begun to use it cannot.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([__name__, "sanslabel.sources.folder"])  # once, not once a worker: 2 s each
    return DataLoader(
        _Rows(source),
        batch_sampler=rows,
        num_workers=workers,
        prefetch_factor=2,
        collate_fn=_unchanged,
        worker_init_fn=_bound_to_run,
        multiprocessing_context=context,
        generator=torch.Generator(),  # else it would draw from the global one, and the workers' number would show
    )


def _died(process: multiprocessing.process.BaseProcess) -> bool:
    """Whether a worker is dead, or is so in a moment: what it left half-said may be found before that."""
    process.join(0.2)
    return not process.is_alive()


@contextmanager
def _patience(source: Reads, rows: list[int]) -> Iterator[None]:
    """Names the files of `rows` where what is done with them takes long."""

    def tell() -> None:
        warnings.warn(f"{source.name}: waiting for {_named(source, rows)} for {PATIENCE:.0f} s", stacklevel=2)

    timer = threading.Timer(PATIENCE, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _named(source: Reads, rows: list[int]) -> str:
    names = [source.id(row) for row in rows[:3]]
    more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
    return ", ".join(names) + more or "samples"


def _unchanged(loaded: Any) -> Any:
    return loaded


def _bound_to_run(worker: int) -> None:
    """Ctrl-C and a scheduler's signals reach the whole group: the run finishes its step first, and ends its workers.
    They end with it also where it is killed, which torch would not see: the parent that it looks for is the server."""
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGUSR1", signal.SIGTERM)):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()


def _end_with(run: multiprocessing.process.BaseProcess) -> None:
    run.join()
    os._exit(1)
