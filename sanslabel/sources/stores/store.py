"""The protocol of a store of bytes, and how an ordinary file is opened safely."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import BinaryIO, Protocol, Self

import numpy as np


class Unreadable(Exception):
    """An error for a file that cannot be used, with the reason."""


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

    @property
    def side(self) -> int | None:
        """Returns the pixels to which the shorter side of larger pictures has been reduced; None for original files."""
        ...

    @property
    def fingerprint(self) -> str:
        """Returns a SHA-256 of the content, which copies of the data share."""
        ...

    def name_of(self, path: str) -> str | None:
        """Returns the name that an absolute path has in the store, whether or not there is a file of this name; None
        for a path that leads elsewhere."""
        ...

    def open(self, index: int) -> BinaryIO:
        """Returns a file, open for reading. Raises OSError or Unreadable."""
        ...

    @property
    def first_status(self) -> np.ndarray:
        """Returns the status of all files when it was first requested, (N, 3) int64, see `status`."""
        ...

    def place(self, index: int) -> tuple[int, int]:
        """Returns the place of a file's bytes on disk: two numbers, which all names and links of a file share. Raises
        OSError."""
        ...

    def is_link(self, index: int) -> bool:
        """Returns True if the name leads to a file or folder elsewhere."""
        ...

    def status(self, begin: int = 0, end: int | None = None) -> np.ndarray:
        """Returns sizes and times of the files from `begin` to `end`, which show whether a file has changed.

        (n, 3) int64: the bytes of each file, and the times in ns when its content and its entry last changed; -1 for a
        missing file.
        """
        ...

    def subset(self, index: Sequence[int]) -> Self:
        """Returns a store of these files, in that order."""
        ...


def name_below(folders: Sequence[str], path: str) -> str | None:
    """Returns the path relative to the first of these folders in which it lies, with forward slashes; else None."""
    path = os.path.abspath(path)
    for below in (path, os.path.realpath(path)):
        for folder in folders:
            if below.startswith(folder.rstrip(os.sep) + os.sep):
                return os.path.relpath(below, folder).replace(os.sep, "/")
    return None


def open_regular(path: str | Path) -> BinaryIO:
    """Returns an ordinary file, open for reading.

    Raises Unreadable for folders, pipes and devices: reading a pipe would block, and a device has no end.
    """
    path = Path(path)
    mode = path.stat().st_mode
    if not S_ISREG(mode):
        raise Unreadable("Is a directory" if S_ISDIR(mode) else "not a file, but a device or a pipe")
    return path.open("rb")
