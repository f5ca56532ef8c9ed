"""The progress of a run: a bar on a terminal, and lines that stay there, in a notebook and in a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil
from typing import NamedTuple

from sanslabel.batch import Clock
from sanslabel.console import errors
from sanslabel.distributed import rank

PAUSE, LONGEST = 10.0, 60.0
"""the fewest seconds between lines, and the most"""
REFRESH = 0.1
"""seconds between changes of a bar"""


class Display(NamedTuple):
    """Two ways to show the progress of a run."""

    bar: Callable[[int, str], None] | None
    """shows the number of steps done and a text, until the next call; None without a terminal"""
    line: Callable[[str], None]
    """prints a line that stays"""


@contextmanager
def display(done: int, steps: int) -> Iterator[Display]:
    """Context manager that yields the display of a run of `steps` steps, `done` of which are done already. Only the
    first process shows anything."""
    screen = errors()
    if rank() > 0:
        yield Display(None, lambda text: None)
        return
    if not screen.isatty():
        yield Display(None, lambda text: print(text, file=screen))
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), BarColumn(bar_width=8), TextColumn("{task.fields[text]}"))
    with Progress(*columns, console=Console(file=screen), transient=True) as progress:
        task = progress.add_task("", total=steps, completed=done, text=f"first of {steps - done:,} steps")
        yield Display(
            lambda step, text: progress.update(task, completed=step, text=text),
            lambda text: progress.console.print(text, markup=False, highlight=False),
        )


class Pace:
    """The times of a run's steps: when a line about them is due, and how long the rest will take."""

    def __init__(self, done: int) -> None:
        self.begin = self.line = self.refreshed = time.monotonic()
        self.done, self.first = done, True
        self.start: tuple[int, float] | None = None  # after the first step, which takes longer than the others

    def step(self, clock: Clock) -> None:
        """Notes the end of a step."""
        if self.start is None:
            self.start = (clock.step + 1, time.monotonic())

    def line_due(self, clock: Clock) -> bool:
        """Returns True if a line is due: for the first one and at the end of an epoch after ten seconds, anywhere after
        a minute, and at the last step."""
        waited, step = time.monotonic() - self.line, clock.step + 1
        whole_epoch = step % clock.steps_per_epoch == 0
        return step == clock.steps or waited >= (PAUSE if self.first or whole_epoch else LONGEST)

    def refresh_due(self) -> bool:
        """Returns True if the bar may change again. The moment counts as its change."""
        now = time.monotonic()
        due = now - self.refreshed >= REFRESH
        self.refreshed = now if due else self.refreshed
        return due

    def printed(self) -> None:
        """Notes that a line was printed."""
        self.line, self.first = time.monotonic(), False

    def seconds_left(self, clock: Clock) -> float:
        """Returns the seconds that the remaining steps will take at the average speed so far."""
        step, now = clock.step + 1, time.monotonic()
        begin, since = self.start if self.start is not None and step > self.start[0] else (self.done, self.begin)
        return (now - since) / (step - begin) * (clock.steps - step)


def position(clock: Clock) -> str:
    """Returns the number of epochs done, of all: "epoch 3/20", within an epoch "epoch 2.4/20"."""
    step, epochs = clock.step + 1, clock.steps // clock.steps_per_epoch
    done, rest = divmod(step, clock.steps_per_epoch)
    return f"epoch {done if rest == 0 else f'{int(10 * step / clock.steps_per_epoch) / 10:.1f}'}/{epochs:,}"


def duration(seconds: float) -> str:
    """Returns a time as text: "50 s", "4 min", "5.7 h", "3 days"."""
    if seconds < 100:
        return f"{ceil(seconds)} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"
