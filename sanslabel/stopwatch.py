"""A stopwatch for the phases of training. Code marks its phase, and a running stopwatch adds up the time of each.

Time in a phase that lies within another counts for the inner phase only, so all phases add up to the total. On CUDA the
times are those of the device, between events in its queue. They are read once the device has passed them, and nothing
ever waits for the device. A mark costs 1 µs without a running stopwatch, and 3 µs on a CPU with one; a step has about
ten marks.
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
"""waiting: for the next batch; rest: everything that is not marked"""
T = TypeVar("T")


class Stopwatch:
    """The seconds of each phase, in one thread.

    named: whether phases are also ranges in a trace of torch's profiler, which costs 5 µs each.
    """

    def __init__(self, device: torch.device, named: bool = False) -> None:
        self.device, self.named = device, named
        self.spent: dict[Phase, float] = defaultdict(float)
        self.phase: Phase = "rest"
        self._since = self._moment()
        self._ahead: deque[tuple[Phase, Any, Any]] = deque()  # phases whose events the device has not passed yet

    def turn_to(self, phase: Phase) -> Phase:
        """Starts a phase, and returns the one that ends."""
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
        """Returns the seconds of each phase since the last lap. On CUDA only work that the device has finished
        counts."""
        self.turn_to(self.phase)
        lap, self.spent = self.spent, defaultdict(float)
        return dict(lap)

    def _moment(self) -> Any:
        if self.device.type != "cuda":
            return perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event


_running: list[Stopwatch] = []
"""stopwatches that were started; only the last one counts"""


@contextmanager
def timing(watch: Stopwatch) -> Iterator[Stopwatch]:
    """Context manager within which this stopwatch runs."""
    _running.append(watch)
    try:
        yield watch
    finally:
        _running.remove(watch)


@contextmanager
def timed(name: Phase) -> Iterator[None]:
    """Context manager and decorator that marks a phase: `with timed("views"):`, or `@timed("views")` on a function.

    It does not work as a decorator of generators.
    """
    if not _running:
        yield
        return
    watch = _running[-1]
    before = watch.turn_to(name)
    try:
        with record_function(name) if watch.named else nullcontext():
            yield
    finally:
        watch.turn_to(before)


def timed_waiting(items: Iterable[T]) -> Iterator[T]:
    """Yields the items. The time until each item has come counts as waiting."""
    iterator, end = iter(items), object()
    while True:
        with timed("waiting"):
            item: Any = next(iterator, end)
        if item is end:
            return
        yield item
