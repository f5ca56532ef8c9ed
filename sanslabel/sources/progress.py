"""Progress of decoding, as a bar on a terminal or as lines of text."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from sanslabel.console import errors
from sanslabel.distributed import rank

PAUSE = 10.0
"""seconds between lines"""


def counted_off(pieces: Sequence[Tensor], name: str) -> Iterator[Tensor]:
    """Yields pieces of a work, each a tensor of rows, and shows how many rows are done."""
    with shown_progress(name, sum(map(len, pieces))) as show:
        done = 0
        for piece in pieces:
            yield piece
            done += len(piece)
            show(done)


@contextmanager
def shown_progress(name: str, total: int, verb: str = "decoded") -> Iterator[Callable[[int], None]]:
    """Context manager that yields `show(number done)`: a bar on a terminal, elsewhere a line every ten seconds."""
    screen = errors()
    if rank() > 0:
        yield lambda done: None
    elif screen.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(bar_width=10), MofNCompleteColumn())
        with Progress(*columns, TimeRemainingColumn(), console=Console(file=screen), transient=True) as bar:
            task = bar.add_task(f"{name}, {verb}:", total=total)
            yield lambda done: bar.update(task, completed=done)
    else:
        start = last = time.monotonic()

        def show(done: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= PAUSE:
                last, left = now, (now - start) / done * (total - done)
                print(f"{name}: {done:,} of {total:,} {verb}  {left:.0f} s left", file=screen)

        yield show
