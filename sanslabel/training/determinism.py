from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from sanslabel.device import deterministic_kernels
from sanslabel.memory_limits import keep_freed_memory


@contextmanager
def reproducible(device: torch.device, frugal: bool = False) -> Iterator[None]:
    """What training runs under, of all that is set for a process: random numbers that are given back afterwards, the
    same bits each time, and freed memory that a processor keeps; frugal: unless memory is to be saved."""
    kept = keep_freed_memory() if device.type == "cpu" and not frugal else nullcontext()
    with torch.random.fork_rng(range(torch.cuda.device_count())), deterministic_kernels(), kept:
        yield
