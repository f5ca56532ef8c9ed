"""A lock on a run folder: one process at a time trains in it."""

from __future__ import annotations

import os
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sanslabel.errors import BadInput, DiskError

if sys.platform == "win32":
    import msvcrt

    FAR = 1 << 30  # the lock is far behind the holder's name, since a locked byte cannot be read

    def _take(descriptor: int) -> None:
        os.lseek(descriptor, FAR, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _take(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


PATIENCE = 1.0
"""seconds that the holder of a lock has to write its name"""


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Context manager that holds RUN/.lock; the system releases it when the process dies, however it dies.

    Raises BadInput, which names the holder, if another process holds the lock. Raises DiskError if the folder cannot be
    created or written.
    """
    path = run / ".lock"
    try:
        run.mkdir(parents=True, exist_ok=True)
        # O_NOFOLLOW: if .lock is a symbolic link, the file that it points to must not be overwritten.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
    except OSError as error:
        raise DiskError(f"{run}: the run folder cannot be written ({error}); choose another --out.") from error
    try:
        try:
            _take_patiently(descriptor)
        except (BlockingIOError, PermissionError) as error:
            raise BadInput(
                f"{run}: is being trained by {_holder(descriptor) or 'another process'}; wait for its end, or stop it."
            ) from error
        except OSError as error:
            warnings.warn(
                f"{path}: this file system has no locks ({error}); start no second run on this folder", stacklevel=3
            )
        _write_holder(descriptor, f"process {os.getpid()} on {socket.gethostname()}")
        yield
        _write_holder(descriptor, "")
    finally:
        os.close(descriptor)  # this also releases the lock


def _take_patiently(descriptor: int) -> None:
    """Takes the lock, or raises the error of `_take` once its holder has written a name, or after a second.

    A process that takes the lock writes its name a moment later, and one that only looks into the folder gives the lock
    back at once.
    """
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return _take(descriptor)
        except (BlockingIOError, PermissionError):
            if _holder(descriptor) or time.monotonic() > end:
                raise
        time.sleep(0.02)


def refuse_if_locked(run: Path) -> None:
    """Raises BadInput if a process trains in the folder. Writes nothing if there is no lock file."""
    if (run / ".lock").exists():
        with locked(run):
            pass


def _holder(descriptor: int) -> str:
    """Returns the name of the process that holds the lock, "" before it has written it."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, 200).decode(errors="replace")


def _write_holder(descriptor: int, holder: str) -> None:
    """Writes the holder's name, which the errors of other processes quote. On a full disk the lock has no name."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, holder.encode())
