"""Loads samples while earlier ones are used, in worker processes or in a thread of this process."""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import os
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from multiprocessing.reduction import ForkingPickler
from multiprocessing.util import Finalize
from queue import SimpleQueue
from types import FunctionType, ModuleType
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sanslabel.errors import BadInput
from sanslabel.sources.pictures.picture_file import PictureFile
from sanslabel.sources.source import Request

PATIENCE = 30.0
"""seconds without a batch, after which a warning names the requested files"""
DEATHS = 3
"""number of deaths of worker processes, without a batch in between, at which a run ends"""
Plain = tuple[list[int], int, list[int] | None]
"""a request without tensors"""
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Loads(Protocol[T_co]):
    """A source, or something that reads the files of one."""

    @property
    def name(self) -> str: ...
    def id(self, index: int) -> str: ...
    def load(self, request: Request) -> T_co: ...


def load_each(source: Loads[T], requested: Iterator[Request], workers: int) -> Generator[T, None, None]:
    """Returns the results of `source.load` for all requests, from `workers` processes, or from this one if that is 0.

    A source that is defined in the script itself is loaded in this process, with a warning: workers do not import the
    script. A warning names the files that take long. Raises BadInput if worker processes die again and again.
    """
    if workers and (reason := _bound_here(source)):
        warnings.warn(
            f"{source.name}: is loaded in this process, without workers, since {reason}; put what the data need into a"
            " file of its own, and import it",
            stacklevel=2,
        )
        workers = 0
    return _by_workers(source, requested, workers) if workers else _here(source, requested)


def load_ahead(source: Loads[T], requested: Iterator[Request]) -> Generator[T, None, None]:
    """Yields the result of `source.load` for each request, while a thread loads the next one.

    The thread copies memory, which does not block other threads. A thread that hangs while reading a file is abandoned.
    """
    wanted, done = SimpleQueue[Request | None](), SimpleQueue[T | Exception]()

    def load() -> None:
        while (request := wanted.get()) is not None:
            try:
                done.put(source.load(request))
            except Exception as error:
                done.put(error)

    threading.Thread(target=load, daemon=True).start()
    try:
        wanted.put(request := next(requested, None))
        while request is not None:
            with _patience(source, request):
                loaded = done.get()
            if isinstance(loaded, Exception):
                raise loaded
            wanted.put(request := next(requested, None))
            yield loaded
    finally:
        wanted.put(None)


def _here(source: Loads[T], requested: Iterator[Request]) -> Generator[T, None, None]:
    for request in requested:
        with _patience(source, request):
            loaded = source.load(request)
        yield loaded


class _Worker(Dataset, Generic[T]):
    """The source as a torch data set, for worker processes."""

    def __init__(self, source: Loads[T]):
        self.source = source

    def __getitems__(self, request: Plain) -> T | BadInput:
        index, key, batch = request
        try:
            return self.source.load(Request(_tensor(index), key, None if batch is None else _tensor(batch)))
        except BadInput as error:
            return error  # if a worker raised it, its message would arrive inside a traceback


def _tensor(index: list[int]) -> Tensor:
    return torch.tensor(index, dtype=torch.int64)


def _by_workers(source: Loads[T], requested: Iterator[Request], workers: int) -> Generator[T, None, None]:
    """Yields the samples that worker processes load.

    If a process dies, a warning says so, and new processes start from the first batch that was not handed over. This is
    possible because the order of samples depends on no process's state.
    """
    pending: deque[Request] = deque()  # sent to the workers, and not back yet

    def sent(again: Sequence[Request]) -> Iterator[Plain]:
        for request in chain(again, requested):
            pending.append(request)
            # A tensor would cost an open file for each batch.
            yield request.index.tolist(), request.key, None if request.batch is None else request.batch.tolist()

    deaths = 0
    while True:
        again = list(pending)
        pending.clear()
        pool, processes = _started(source, sent(again), workers)
        # An error that ends the program may keep this generator alive until the interpreter waits for its children.
        # They ignore the SIGTERM that it sends them, so it would wait forever.
        end = Finalize(None, _kill, (processes,), exitpriority=0)
        try:
            while True:
                with _patience(source, pending[0] if pending else None):
                    loaded = next(pool, None)
                if loaded is None:
                    return
                if isinstance(loaded, BadInput):
                    raise loaded
                pending.popleft()
                deaths = 0
                yield loaded
        except (RuntimeError, OSError, EOFError) as error:
            dead = [process for process in processes if _died(process)]
            if not dead:
                raise
            deaths += 1
            died = f"{source.name}: worker process {', '.join(str(process.pid) for process in dead)} died"
            during = f"while loading {_named(source, pending[0] if pending else None)}"
            if deaths == DEATHS:
                raise BadInput(
                    f"{died} {during}, the third time in a row ({error}); lower --workers or --batch if memory is"
                    " short, or remove the file that ends them."
                ) from error
            warnings.warn(f"{died} {during}; others go on in its place", stacklevel=2)
        finally:
            end()


def _started(
    source: Loads[T], requested: Iterator[Plain], workers: int
) -> tuple[Iterator[T], list[multiprocessing.process.BaseProcess]]:
    """Returns an iterator over loaded samples, and the worker processes. If the start is interrupted, no process
    remains."""
    before = multiprocessing.active_children()
    try:
        with _script_hidden():
            pool = iter(_pool(source, requested, workers))
    except BaseException:
        for process in multiprocessing.active_children():
            if process not in before:
                process.kill()
        raise
    return pool, pool._workers  # pyright: ignore[reportAttributeAccessIssue]


def _kill(processes: list[multiprocessing.process.BaseProcess]) -> None:
    for process in processes:  # to wait for one that hangs in a file would take forever
        process.kill()


def _pool(source: Loads, requested: Iterator[Plain], workers: int) -> DataLoader:
    # Forking a process with threads can deadlock; forking a server that has only imported torch cannot.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        # once instead of 2 s in each worker
        context.set_forkserver_preload([__name__, "sanslabel.sources.pictures.images"])
    return DataLoader(
        _Worker(source),
        batch_sampler=requested,  # pyright: ignore[reportArgumentType]
        num_workers=workers,
        prefetch_factor=2,
        collate_fn=_unchanged,
        worker_init_fn=_bound_to_run,
        multiprocessing_context=context,
        generator=torch.Generator(),  # else it draws from the global one, and draws depend on the number of workers
    )


@contextmanager
def _script_hidden() -> Iterator[None]:
    """Context manager in which new processes do not import the script that runs.

    By default each of them does, and a script without `if __name__ == "__main__":` would train in each of them. Workers
    need nothing of the script.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _bound_here(source: Loads) -> str:
    """Returns the reason why a source cannot be sent to a worker process, or "" if it can be."""
    dependencies = _Dependencies()
    try:
        dependencies.dump(source)
    except Exception as error:  # objects raise errors of any kind when they are pickled
        return f"it cannot be pickled ({error})"
    if dependencies.of_script:
        return f"{dependencies.of_script[0]} is defined in the script itself, which these do not import"
    return ""


class _Dependencies(ForkingPickler):
    """A pickler that writes nothing, and lists the classes and functions of the script that an object needs."""

    def __init__(self) -> None:
        super().__init__(_Nowhere())
        self.of_script: list[str] = []

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Tensor | np.ndarray | PictureFile):
            return int, ()  # nothing of a script is in them, and their content would take time
        if isinstance(value, type | FunctionType) and value.__module__ == "__main__":
            self.of_script.append(value.__qualname__)
        return NotImplemented


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, content: bytes) -> int:
        return len(content)


def _died(process: multiprocessing.process.BaseProcess) -> bool:
    """Returns True if a worker is dead or ends within 0.2 s, since its last message may arrive before its end is
    seen."""
    process.join(0.2)
    return not process.is_alive()


@contextmanager
def _patience(source: Loads, request: Request | None) -> Iterator[None]:
    """Context manager that warns with the names of the requested files if the work within takes long."""

    def warn() -> None:
        warnings.warn(f"{source.name}: waiting for {_named(source, request)} for {PATIENCE:.0f} s", stacklevel=2)

    timer = threading.Timer(PATIENCE, warn)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _named(source: Loads, request: Request | None) -> str:
    index = [] if request is None else request.index.tolist()
    names = [source.id(row) for row in index[:3]]
    more = f" and {len(index) - 3} more" if len(index) > 3 else ""
    return ", ".join(names) + more or "samples"


def _unchanged(loaded: Any) -> Any:
    return loaded


def _bound_to_run(worker: int) -> None:
    """Binds a worker process to the run.

    Ctrl-C and a scheduler's signals reach all processes. Workers ignore them: the run finishes its step first, and then
    ends its workers. If the run is killed, a thread ends the worker. torch would not notice, since the parent that it
    watches is the fork server.
    """
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGUSR1", signal.SIGTERM)):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()


def _end_with(run: multiprocessing.process.BaseProcess) -> None:
    run.join()
    os._exit(1)
