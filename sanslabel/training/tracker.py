"""Trackers that receive the figures of a run besides metrics.jsonl."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sanslabel.errors import BadInput
from sanslabel.settings import Track
from sanslabel.wording import worded

Tracker = Callable[[Mapping[str, Any]], None]
"""a function that takes a line of metrics.jsonl"""


def check_tracker(kind: Track | None) -> None:
    """Raises BadInput if the tracker's package is missing."""
    if kind is not None and find_spec(kind) is None:
        raise BadInput(f'--track {kind}: the package is missing; pip install "sanslabel[track]".')


@contextmanager
def tracking(kind: Track | None, run: Path, start: int) -> Iterator[Tracker]:
    """Context manager that yields the tracker of a run which goes on from step `start`. A tracker that fails warns
    once, and is left out from then on."""
    if kind is None:
        yield lambda line: None
        return
    writer, broken = None, False

    def track(line: Mapping[str, Any]) -> None:
        nonlocal writer, broken
        if broken:
            return
        try:
            if writer is None:
                from torch.utils.tensorboard import SummaryWriter

                writer = SummaryWriter(run / kind, purge_step=start + 1 if start else None)
            for name, value in line.items():
                if name not in {"step", "epoch"} and isinstance(value, int | float):
                    writer.add_scalar(name, value, line["step"])
            writer.flush()
        except Exception as error:  # no failure of a tracker may stop a run
            broken = True
            warnings.warn(worded(f"--track {kind}: failed and is left out from now on ({error!r})"), stacklevel=2)

    try:
        yield track
    finally:
        if writer is not None:
            with suppress(Exception):
                writer.close()
