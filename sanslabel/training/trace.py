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
"""steps that are passed over, those that the profiler warms up with, and those in the trace; fewer in a shorter run"""
NAME = "trace.json.gz"


@contextmanager
def traced(run: Path, steps: int, device: torch.device) -> Iterator[Callable[[], None]]:
    """Yields what is to be called after each of so many steps. RUN/trace.json.gz has those from about the tenth on, of
    the first process, with the parts of a step under the names that a named stopwatch gives them."""
    if steps == 0 or rank() > 0:
        yield lambda: None
        return
    active = min(TRACED, steps)
    warmup = min(WARMUP, steps - active)
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Profiler won't be using warmup")  # there are no steps for it
        when = schedule(skip_first=min(BEFORE, steps - active - warmup), wait=0, warmup=warmup, active=active, repeat=1)
        profiler = profile(activities=kinds, schedule=when, on_trace_ready=lambda found: _write(found, run / NAME))
    with profiler:
        yield profiler.step


def _write(found: profile, path: Path) -> None:
    """A disk that refuses is told of, and is no reason to stop a run."""
    try:
        with replacing(path) as partial, TemporaryDirectory() as folder:
            found.export_chrome_trace(f"{folder}/{NAME}")
            copyfile(f"{folder}/{NAME}", partial)
    except DiskError as error:
        warnings.warn(f"{error} Training goes on.", stacklevel=2)
        return
    print(f"A trace of a few steps: {path}, for chrome://tracing or ui.perfetto.dev", file=errors())
