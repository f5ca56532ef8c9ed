"""Where time goes: whoever does a part of the work marks it, and a stopwatch that somebody holds meanwhile adds it up.

What is spent in a part that lies within another counts there alone, so that all parts and the rest make up the whole.
On CUDA the times are those of the device, between events in its queue; they are read when it has passed them, and
nothing ever waits for it. A mark costs 1 µs where nobody holds a stopwatch, and 3 µs on a processor where somebody
does; a step has about ten.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from time import perf_counter
from typing import Any, Literal, TypeVar

import torch
from torch.profiler import record_function

Phase = Literal["waiting", "views", "forward", "backward", "update", "rest"]
"""waiting: for the next batch; rest: what nobody has marked"""
T = TypeVar("T")


class Stopwatch:
    """Seconds by part, of one thread.

    named: whether parts are also ranges of that name in a trace of torch's profiler, which costs 5 µs each.
    """

    def __init__(self, device: torch.device, named: bool = False) -> None:
        self.device, self.named = device, named
        self.spent: dict[Phase, float] = defaultdict(float)
        self.phase: Phase = "rest"
        self._since = self._moment()
        self._ahead: deque[tuple[Phase, Any, Any]] = deque()  # what the device has not passed yet

    def turn_to(self, phase: Phase) -> Phase:
        """From now on this part goes on; the one that did until now."""
        before, since, now = self.phase, self._since, self._moment()
        self.phase, self._since = phase, now
        if self.device.type != "cuda":
            self.spent[before] += now - since
            return before
        self._ahead.append((before, since, now))
        while self._ahead and self._ahead[0][2].query():
            passed, begin, end = self._ahead.popleft()
            self.spent[passed] += begin.elapsed_time(end) / 1000
        return before

    def lap(self) -> dict[Phase, float]:
        """The seconds of each part since the last lap; on CUDA of what the device has passed."""
        self.turn_to(self.phase)
        lap, self.spent = self.spent, defaultdict(float)
        return dict(lap)

    def _moment(self) -> Any:
        if self.device.type != "cuda":
            return perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event


_held: list[Stopwatch] = []
"""the last one counts"""


@contextmanager
def timing(watch: Stopwatch) -> Iterator[Stopwatch]:
    """Within it, parts are added up by this stopwatch."""
    _held.append(watch)
    try:
        yield watch
    finally:
        _held.remove(watch)


@contextmanager
def timed(name: Phase) -> Iterator[None]:
    """Marks what is done within it as a part of the work: `with part("views"):`, or `@part("views")` over a function
    that is no generator."""
    if not _held:
        yield
        return
    watch = _held[-1]
    before = watch.turn_to(name)
    try:
        with record_function(name) if watch.named else nullcontext():
            yield
    finally:
        watch.turn_to(before)


def timed_waiting(items: Iterable[T]) -> Iterator[T]:
    """The same items; the time until each is there counts as waiting."""
    iterator, end = iter(items), object()
    while True:
        with timed("waiting"):
            item: Any = next(iterator, end)
        if item is end:
            return
        yield item
