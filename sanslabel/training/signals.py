"""Signals stop a run between two steps, when its state is complete."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sanslabel.errors import SanslabelError

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM) + ((signal.SIGUSR1,) if hasattr(signal, "SIGUSR1") else ())
T = TypeVar("T")


class Stopped(SanslabelError):
    """A signal that ended the run after it was saved. The exit code is 128 + the signal's number."""

    def __init__(self, number: int, sentence: str) -> None:
        super().__init__(sentence)
        self.exit_code = 128 + number


class StoppedWaiting(BaseException):
    """A signal that came while a run waited for its next batch."""


class Interrupted(KeyboardInterrupt):
    """A signal that ends the work at once: nothing has to be finished first, or it is the second signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Received(list[int]):
    """The numbers of the signals that have come."""

    waiting = False
    """True while the run waits for its next batch"""

    @property
    def first(self) -> int:
        """Returns the number of the first signal, or 0 if none has come."""
        return self[0] if self else 0

    def until_signal(self, items: Iterable[T]) -> Iterator[T]:
        """Yields the items. A signal during the wait for an item raises StoppedWaiting at once, since the wait may be
        long and no step is under way."""
        iterator = iter(items)
        while True:
            try:
                self.waiting = True
                if self:
                    raise StoppedWaiting
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self.waiting = False
            yield item


@contextmanager
def stop_signals() -> Iterator[Received]:
    """Context manager that yields the signals that have come so far. A second signal acts as if none were handled."""
    received = Received()

    def receive(number: int) -> None:
        received.append(number)
        if received.waiting:
            raise StoppedWaiting

    with _handled_by(receive):
        yield received


@contextmanager
def interrupting() -> Iterator[None]:
    """Context manager in which a signal raises Interrupted. A second signal acts as if none were handled."""

    def interrupt(number: int) -> None:
        raise Interrupted(number)

    with _handled_by(interrupt):
        yield


@contextmanager
def _handled_by(handle: Callable[[int], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield
        return
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in STOP_SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle_once(number: int, frame: object) -> None:
        restore()
        handle(number)

    try:
        for number in STOP_SIGNALS:
            signal.signal(number, handle_once)
        yield
    finally:
        restore()
