"""One process at a time trains in a run folder."""

from __future__ import annotations

import os
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sanslabel.errors import BadInput, DiskError

if sys.platform == "win32":
    import msvcrt

    FAR = 1 << 30  # a locked byte cannot be read, and the holder's name is to be

    def _take(descriptor: int) -> None:
        os.lseek(descriptor, FAR, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _take(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Holds RUN/.lock, which the system releases when the process dies, however it dies. BadInput where another process
    does, with its name; DiskError where the folder cannot be made or written."""
    path = run / ".lock"
    try:
        run.mkdir(parents=True, exist_ok=True)
        # Not what a link of that name leads to, which would be written over.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
    except OSError as error:
        raise DiskError(f"{run}: the run folder cannot be written ({error}); choose another --out.") from error
    try:
        try:
            _take(descriptor)
        except (BlockingIOError, PermissionError) as error:
            raise BadInput(
                f"{run}: is being trained by {_holder(descriptor)}; wait for its end, or stop it."
            ) from error
        except OSError as error:
            warnings.warn(f"{path}: locks are not to be had here ({error}); start no second run on it", stacklevel=3)
        _name(descriptor, f"process {os.getpid()} on {socket.gethostname()}")
        yield
        _name(descriptor, "")
    finally:
        os.close(descriptor)  # and with it the lock


def refuse_if_locked(run: Path) -> None:
    """BadInput where a process trains in the folder; writes nothing."""
    if (run / ".lock").exists():
        with locked(run):
            pass


def _holder(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, 200).decode(errors="replace") or "another process"


def _name(descriptor: int, holder: str) -> None:
    """Who holds it, for those who come later; a full disk is no reason to do without a lock."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, holder.encode())
