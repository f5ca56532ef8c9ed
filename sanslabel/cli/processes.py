"""Support for a command that several processes run together: only one prints, and errors name their process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO

from sanslabel.console import errors


def process_number() -> int | None:
    """Returns the number of this process among several, from the variables that torchrun and srun set, or None
    for a single process."""
    number = os.environ.get("RANK") or os.environ.get("SLURM_PROCID")
    several = {os.environ.get("WORLD_SIZE"), os.environ.get("SLURM_STEP_NUM_TASKS")} - {None, "1"}
    return int(number) if several and number else None


def program() -> str:
    """Returns the name that messages begin with."""
    return "sanslabel" if process_number() is None else f"sanslabel (process {process_number()})"


@contextmanager
def joined_command(timeout: float = 600.0) -> Iterator[None]:
    """Context manager that joins the processes that were started for the same command. Only the first one prints."""
    from sanslabel.distributed import rank
    from sanslabel.process_group import joined

    with joined(timeout), redirect_stdout(sys.stdout if rank() == 0 else StringIO()):
        yield


def show_progress(sentence: str) -> None:
    """Prints the current activity. On a terminal, each sentence replaces the one before."""
    if process_number():
        return
    terminal = errors().isatty()
    print(f"\r\033[K{sentence}" if terminal else sentence, end="" if terminal else "\n", file=errors(), flush=True)


def clear_progress() -> None:
    """Removes the line of `show_progress` from a terminal."""
    if errors().isatty():
        print("\r\033[K", end="", file=errors(), flush=True)
