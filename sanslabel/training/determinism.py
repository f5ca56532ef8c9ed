"""Reproducible training: the settings of the process that hold while a run trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from sanslabel.device import deterministic_kernels
from sanslabel.memory_limits import keep_freed_memory


@contextmanager
def reproducible(device: torch.device, saves_memory: bool = False) -> Iterator[None]:
    """Context manager in which training gives the same bits each time.

    The states of the random generators are restored at the end. On the CPU, freed memory is kept for reuse, unless
    `saves_memory` is True.
    """
    memory = keep_freed_memory() if device.type == "cpu" and not saves_memory else nullcontext()
    with torch.random.fork_rng(range(torch.cuda.device_count())), deterministic_kernels(), memory:
        yield
