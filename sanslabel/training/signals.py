"""A signal asks a run to stop; the run does so between two steps, when its state is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sanslabel.errors import SanslabelError

ASKED = (signal.SIGINT, signal.SIGTERM) + ((signal.SIGUSR1,) if hasattr(signal, "SIGUSR1") else ())
T = TypeVar("T")


class Stopped(SanslabelError):
    """A signal ended the run after a save; the exit code is 128 + the signal's number."""

    def __init__(self, number: int, sentence: str) -> None:
        super().__init__(sentence)
        self.exit_code = 128 + number


class Enough(BaseException):
    """A signal came while a run waited for its next batch."""


class Interrupted(KeyboardInterrupt):
    """A signal came where nothing is to be finished first, or a second one."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Heard(list[int]):
    """The numbers of the signals that have come."""

    waiting = False

    @property
    def first(self) -> int:
        """The first of them; 0 if none has come."""
        return self[0] if self else 0

    def waited(self, items: Iterable[T]) -> Iterator[T]:
        """The same items. A signal that comes while one is waited for raises Enough: no step is under way then, and the
        wait may be a long one."""
        iterator = iter(items)
        while True:
            try:
                self.waiting = True
                if self:
                    raise Enough
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self.waiting = False
            yield item


@contextmanager
def asked_to_stop() -> Iterator[Heard]:
    """Yields what holds the signal's number once one has come; a second one acts as if nobody listened."""
    heard = Heard()

    def listen(number: int) -> None:
        heard.append(number)
        if heard.waiting:
            raise Enough

    with _listening(listen):
        yield heard


@contextmanager
def interrupting() -> Iterator[None]:
    """Within it, a signal raises Interrupted; a second one acts as if nobody listened."""

    def listen(number: int) -> None:
        raise Interrupted(number)

    with _listening(listen):
        yield


@contextmanager
def _listening(listen: Callable[[int], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only the main thread may listen
        yield
        return
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in ASKED}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def once(number: int, frame: object) -> None:
        restore()
        listen(number)

    try:
        for number in ASKED:
            signal.signal(number, once)
        yield
    finally:
        restore()
