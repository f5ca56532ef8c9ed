from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from sanslabel.hardware import freed_memory_kept, same_bits


@contextmanager
def conditions(device: torch.device, frugal: bool = False) -> Iterator[None]:
    """What training runs under, of all that is set for a process: random numbers that are given back afterwards, the
    same bits each time, and freed memory that a processor keeps; frugal: unless memory is to be saved."""
    kept = freed_memory_kept() if device.type == "cpu" and not frugal else nullcontext()
    with torch.random.fork_rng(range(torch.cuda.device_count())), same_bits(), kept:
        yield
