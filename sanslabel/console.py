"""Streams for messages to a person."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any, TextIO, cast


class RobustStream:
    """A text stream that raises no errors: it becomes silent when it is closed or nobody reads it any more."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self._call("write", text)
        return len(text)

    def flush(self) -> None:
        self._call("flush")

    def isatty(self) -> bool:
        with suppress(ValueError):
            return self.stream is not None and self.stream.isatty()
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _call(self, method: str, *arguments: str) -> None:
        try:
            if self.stream is not None:
                getattr(self.stream, method)(*arguments)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError):  # text that it still buffers would fail again when the process ends
                with suppress(OSError, ValueError), open(os.devnull, "w") as nothing:
                    os.dup2(nothing.fileno(), self.fileno())
            self.stream = None


def errors() -> TextIO:
    """Returns standard error as a stream that never fails."""
    return cast(TextIO, RobustStream(sys.stderr))
