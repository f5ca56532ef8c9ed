"""The progress of a run: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from sanslabel.batch import Clock
from sanslabel.console import errors
from sanslabel.distributed import rank

Show = Callable[[Clock, str], None]
PAUSE = 10.0
"""seconds between plain lines"""


@contextmanager
def shown(title: str, done: int, steps: int) -> Iterator[Show]:
    """Context manager that yields `show(clock, text)`, to be called after each step with the text to show."""
    screen = errors()
    if rank() > 0:
        yield lambda clock, text: None
        return
    if not screen.isatty():
        yield _plain_lines(screen, done)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    figures = TextColumn("{task.fields[text]}")
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=10), figures, TimeRemainingColumn())  # 80 wide
    with Progress(*columns, console=Console(file=screen)) as bar:
        task = bar.add_task(title, total=steps, completed=done, text="")
        yield lambda clock, text: bar.update(task, completed=clock.step + 1, text=text)


def _plain_lines(screen: TextIO, done: int) -> Show:
    start = last = time.monotonic()

    def show(clock: Clock, text: str) -> None:
        nonlocal last
        now = time.monotonic()
        step = clock.step + 1
        if now - last >= PAUSE or step == clock.steps:
            last = now
            left = (now - start) / (step - done) * (clock.steps - step)
            epochs = clock.steps / clock.steps_per_epoch
            print(f"epoch {step / clock.steps_per_epoch:.1f}/{epochs:.0f}  {text}  {left:.0f} s left", file=screen)

    return show
