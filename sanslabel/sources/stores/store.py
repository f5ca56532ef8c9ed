"""The protocol of a store of bytes, and how an ordinary file is opened safely."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import BinaryIO, Protocol, Self

import numpy as np


class Unreadable(Exception):
    """A file that is not used, with the reason."""


class Store(Protocol):
    """Named bytes, in a fixed order."""

    @property
    def location(self) -> Path:
        """Returns the folder or archive, which errors name."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """Returns the relative path of each file, with forward slashes."""
        ...

    def open(self, index: int) -> BinaryIO:
        """Returns a file, open for reading. Raises OSError or Unreadable."""
        ...

    def status(self, begin: int = 0, end: int | None = None) -> np.ndarray:
        """Returns what changes when a file does, of the files from `begin` to `end`.

        (n, 3) int64: the bytes of each, and when its content and its entry last changed, in ns; -1 for one that is
        gone.
        """
        ...

    def subset(self, index: Sequence[int]) -> Self:
        """Returns a store of these files, in that order."""
        ...


def open_regular(path: str | Path) -> BinaryIO:
    """Returns an ordinary file, open for reading.

    Raises Unreadable for what else has a name: a pipe would be waited for, and a device has no end.
    """
    path = Path(path)
    mode = path.stat().st_mode
    if not S_ISREG(mode):
        raise Unreadable("Is a directory" if S_ISDIR(mode) else "no file but a device or a pipe")
    return path.open("rb")
