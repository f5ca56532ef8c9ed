"""A process for each measurement, so that the memory peak of one does not hide that of another."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch

from sanslabel.memory_limits import peak_memory

CLEAR = Path("/proc/self/clear_refs")
"""file of Linux; writing 5 to it resets the peak of memory"""
P = ParamSpec("P")
R = TypeVar("R")


def alone(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
    """Returns the result of a call in a new process, or None if memory ran out, even if the system killed it."""
    with ProcessPoolExecutor(1, mp_context=_context()) as process:
        try:
            return process.submit(function, *args, **kwargs).result()
        except (BrokenProcessPool, MemoryError, torch.OutOfMemoryError):
            return None
        except RuntimeError as error:
            if "allocate memory" in str(error):
                return None
            raise


def _context() -> BaseContext:
    """Returns a context whose processes start with the package imported, if the system can fork them from a server."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(["sanslabel.engine", "sanslabel.evaluation.knn"])
    return context


def peak(device: torch.device, fresh: bool = False) -> int:
    """Returns the peak bytes of memory so far. fresh: whether to reset the peak first, where the system can."""
    if device.type == "cuda":
        if fresh:
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.max_memory_allocated(device)
    if fresh and CLEAR.exists():
        CLEAR.write_text("5")
    return peak_memory()
