"""A trace of a few steps, for a browser's viewer of traces."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from sanslabel.checkpoint import replacing
from sanslabel.console import errors
from sanslabel.distributed import rank
from sanslabel.errors import DiskError

BEFORE, WARMUP, TRACED = 10, 3, 5
"""steps before the trace, steps for the profiler's warm-up, and steps in the trace; fewer in a shorter run"""
NAME = "trace.json.gz"


@contextmanager
def traced(run: Path, steps: int, device: torch.device) -> Iterator[Callable[[], None]]:
    """Context manager that yields a function to be called after each of so many steps.

    RUN/trace.json.gz has a few steps of the first process, from about the tenth on. A stopwatch with `named=True` gives
    their phases names.
    """
    if steps == 0 or rank() > 0:
        yield lambda: None
        return
    active = min(TRACED, steps)
    warmup = min(WARMUP, steps - active)
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with warnings.catch_warnings():
        # A short run has no steps for a warm-up.
        warnings.filterwarnings("ignore", message="Profiler won't be using warmup")
        when = schedule(skip_first=min(BEFORE, steps - active - warmup), wait=0, warmup=warmup, active=active, repeat=1)
        profiler = profile(activities=kinds, schedule=when, on_trace_ready=lambda trace: _write(trace, run / NAME))
    with profiler:
        yield profiler.step


def _write(trace: profile, path: Path) -> None:
    """Writes the trace. If it cannot be written, the run goes on with a warning."""
    try:
        with replacing(path) as partial, TemporaryDirectory() as folder:
            trace.export_chrome_trace(f"{folder}/{NAME}")
            copyfile(f"{folder}/{NAME}", partial)
    except DiskError as error:
        warnings.warn(f"{error} Training goes on.", stacklevel=2)
        return
    print(f"A trace of a few steps: {path}, for chrome://tracing or ui.perfetto.dev", file=errors())
