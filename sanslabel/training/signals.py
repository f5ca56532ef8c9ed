"""A signal asks a run to stop; the run does so at the next step boundary, when its state is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sanslabel.errors import SanslabelError

ASKED = (signal.SIGINT, signal.SIGTERM) + ((signal.SIGUSR1,) if hasattr(signal, "SIGUSR1") else ())


class Stopped(SanslabelError):
    """A signal ended the run after a save; the exit code is 128 + the signal's number."""

    def __init__(self, number: int, sentence: str) -> None:
        super().__init__(sentence)
        self.exit_code = 128 + number


@contextmanager
def asked_to_stop() -> Iterator[list[int]]:
    """Yields a list that holds the signal's number once one has come; a second one acts as if nobody listened."""
    heard: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # only the main thread may listen
        yield heard
        return

    def listen(number: int, frame: object) -> None:
        heard.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    before = {number: signal.signal(number, listen) for number in ASKED}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
