"""A process for each measurement, so that one's peak of memory does not hide another's."""

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
"""takes a 5 for setting the peak of memory back, where there is Linux"""
P = ParamSpec("P")
R = TypeVar("R")


def alone(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
    """What the function returns in a process that is started for it; None where memory ran out, for which the system
    may kill it."""
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
    """Of processes that find the package imported, where the system can start them from such a one."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(["sanslabel.engine", "sanslabel.evaluation.knn"])
    return context


def peak(device: torch.device, fresh: bool = False) -> int:
    """Bytes that were held at most; fresh: from now on, as far as the system forgets what was before."""
    if device.type == "cuda":
        if fresh:
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.max_memory_allocated(device)
    if fresh and CLEAR.exists():
        CLEAR.write_text("5")
    return peak_memory()
