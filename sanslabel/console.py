"""Where sentences for a person go."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any, TextIO, cast


class Lasting:
    """A text stream that is silent from then on when its reader has left or it was closed: what cannot be said is no
    reason to stop."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self._do("write", text)
        return len(text)

    def flush(self) -> None:
        self._do("flush")

    def isatty(self) -> bool:
        with suppress(ValueError):
            return self.stream is not None and self.stream.isatty()
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _do(self, what: str, *values: str) -> None:
        try:
            if self.stream is not None:
                getattr(self.stream, what)(*values)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError):  # what it still holds would fail at the end of the process, too
                with suppress(OSError, ValueError), open(os.devnull, "w") as nothing:
                    os.dup2(nothing.fileno(), self.fileno())
            self.stream = None


def errors() -> TextIO:
    """Standard error, as a stream that lasts."""
    return cast(TextIO, Lasting(sys.stderr))
