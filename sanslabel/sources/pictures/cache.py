"""Caches of decoded pictures, in main memory for one run or on disk for later runs, too.

A cache uses at most half of the free space; pictures that do not fit are decoded each time. Batches have the same bits
with and without a cache, and a failing cache never stops a run.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import shutil
import socket
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
import torch
from PIL import features
from torch import Tensor

from sanslabel.console import errors
from sanslabel.device import cores
from sanslabel.distributed import gather_objects, rank
from sanslabel.errors import BadInput
from sanslabel.heartbeat import Heartbeat, work_while_others_wait
from sanslabel.memory_limits import free_memory, main_memory
from sanslabel.settings import Cache
from sanslabel.sources.pictures.images import ImagesFrom, zeros
from sanslabel.sources.pictures.picture import VERSION
from sanslabel.sources.pictures.picture_file import ABSENT, FORMAT, TABLE, UNREADABLE, PictureFile, PictureWriter
from sanslabel.sources.progress import shown_progress
from sanslabel.sources.source import Request, Source
from sanslabel.sources.stores.listing import SETTLED, cache_folder
from sanslabel.sources.stores.store import Unreadable
from sanslabel.sources.workers import load_each
from sanslabel.wording import worded

PIECE = 16
"""pictures that are decoded and written at a time. Each process has two such pieces in shared memory, which a container
may limit to 64 MiB."""
ALONE = 64 << 20
"""bytes of decoded pictures up to which one process has decoded them before worker processes would have started"""
LISTED = 10_000
"""number of files whose status is read at a time"""
POLL = 1.0
"""seconds between two looks for a cache that another process is making"""


Space = Callable[[int], tuple[int, int]]
"""a function from the bytes in a file to the bytes that caches take, and the bytes that are free beside them"""


class _File(NamedTuple):
    """A finished file of decoded pictures."""

    descriptor: int
    path: str
    """path by which other processes of this machine can open the file while this process has it open"""


def kinds() -> list[Cache]:
    """Returns the kinds of cache that the system can have."""
    if not hasattr(os, "preadv"):
        return []
    return ["ram", "disk"] if hasattr(os, "memfd_create") else ["disk"]


def fitting(source: Source, epochs: int) -> Cache:
    """Returns the kind of cache for a run that leaves the choice open.

    Pictures that are read more than once are kept in main memory if they fit. They may take a quarter of all memory
    and half of the free memory. Their size is estimated from a sample of the files. A cache on disk is made only if a
    flag requests it.
    """
    if epochs < 2 or source.pictures is None or "ram" not in kinds():
        return "none"
    return "ram" if source.pictures.pixel_bytes <= min(main_memory() // 4, free_memory() // 2) else "none"


def cached(source: Source, kind: Cache, workers: int) -> Source:
    """Returns the source with its pictures decoded beforehand, once on each machine.

    One process of each machine decodes them, on all cores unless `workers` is 0, while the others wait. A source
    without image files is returned unchanged. If no cache can be made, a warning says why, and pictures are decoded
    each time they are read.
    """
    pictures = source.pictures
    if kind == "none" or pictures is None:
        return source
    machine = _machine()
    first = gather_objects([machine]).index(machine)
    made = work_while_others_wait(partial(_made, pictures, kind, workers) if rank() == first else None)
    path = gather_objects([made.path if made else None])[first]
    if path is None:
        return source
    try:
        cache = PictureFile(made.descriptor if made else os.open(path, os.O_RDONLY))
    except (OSError, ValueError) as error:
        _warn_of_none(pictures, kind, error)
        cache = None
    gather_objects([None])  # the process that made the file keeps it open until all others have opened it
    with_cache = source.with_pictures(replace(pictures, cache=cache))
    if made and cache and with_cache.decodes and cache.unfitting:
        place = "main memory" if kind == "ram" else "disk"
        remedy = "" if kind == "ram" else f"; with more room, remove {path} to have it made anew"
        warnings.warn(
            f"{source.name}: {cache.unfitting:,} of {len(pictures):,} pictures are decoded each time, since a cache"
            f" uses at most half of the free {place}{remedy}",
            stacklevel=2,
        )
    return with_cache


def _machine() -> str:
    """Returns a name for the machine. Processes with the same name can open each other's open files."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/pid")
    return socket.gethostname()


def _made(pictures: ImagesFrom, kind: Cache, workers: int, heartbeat: Heartbeat) -> _File | None:
    """Returns the finished file, or None, with a warning, if it cannot be made."""
    try:
        if kind not in kinds():
            raise OSError(errno.ENOTSUP, f"not on {platform.system()}")
        return (_in_memory if kind == "ram" else _on_disk)(pictures, workers, heartbeat)
    except (OSError, BadInput, RuntimeError, MemoryError) as error:  # worker processes may die or lack memory
        _warn_of_none(pictures, kind, error)
        return None


def _warn_of_none(pictures: ImagesFrom, kind: Cache, error: Exception) -> None:
    reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
    sentence = f"{pictures.name}: --cache {kind} is not possible ({reason}); pictures are decoded each time"
    warnings.warn(worded(sentence), stacklevel=2)


def _in_memory(pictures: ImagesFrom, workers: int, heartbeat: Heartbeat) -> _File:
    """Returns a file in memory, without a name, which disappears with the last process that has it open."""
    descriptor = os.memfd_create("sanslabel", os.MFD_CLOEXEC)
    try:
        _decode(pictures, descriptor, lambda taken: (taken, free_memory()), workers, heartbeat)
    except BaseException:
        os.close(descriptor)
        raise
    return _File(descriptor, f"/proc/{os.getpid()}/fd/{descriptor}")


def _on_disk(pictures: ImagesFrom, workers: int, heartbeat: Heartbeat) -> _File | None:
    """Returns a file in the user's cache folder, made now or by an earlier run."""

    def fill(descriptor: int, space: Space) -> None:
        _decode(pictures, descriptor, space, workers, heartbeat)

    return _made_on_disk(_key(pictures, heartbeat), pictures.name, pictures.pixel_bytes, fill, heartbeat.beat)


def decoded_once(key: str, name: str, room: int, fill: Callable[[int, Space], None]) -> PictureFile:
    """Returns a file of decoded pictures in the user's cache folder, made now or by an earlier run. Where there can be
    no such folder, it is made in memory.

    key: a name that is a hash of everything that decides the pixels. name: the name of the data. room: the bytes that
    it is expected to take. fill: a function that fills an open file. Raises whatever `fill` raises, and OSError if
    there is no memory either.
    """
    try:
        file = _made_on_disk(key, name, room, fill, lambda: None)
        if file is not None:
            return PictureFile(file.descriptor)
    except (OSError, ValueError):
        pass
    descriptor = os.memfd_create("sanslabel", os.MFD_CLOEXEC) if "ram" in kinds() else _unnamed()
    try:
        fill(descriptor, lambda taken: (taken, free_memory()))
        return PictureFile(os.dup(descriptor))
    finally:
        os.close(descriptor)


def room_for_decoded() -> int:
    """Returns the bytes that a file of decoded pictures may take: half of the space that is free, or taken by others of
    this kind."""
    folder = cache_folder() / "pictures"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return sum(_space(folder)) // 2
    except OSError:
        return free_memory() // 2


def fits(more: int, taken: int, free: int) -> bool:
    """Returns True if a cache with `more` bytes added takes no more space than is then still free."""
    return _fits(more, taken, free)


def _unnamed() -> int:
    """Returns an open file without a name, on systems that have no files in memory."""
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _made_on_disk(
    key: str,
    name: str,
    room: int,
    fill: Callable[[int, Space], None],
    beat: Callable[[], None],
) -> _File | None:
    """Returns a file in the user's cache folder, made now or by an earlier run.

    An unfinished file has another name. The process that fills it holds a lock, which the system releases however that
    process ends.
    """
    place = cache_folder() / "pictures" / key
    unfinished = place.with_suffix(".part")
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    announced = False
    while True:
        if (file := _open_file(place)) is not None:
            return file
        if (descriptor := _claimed(unfinished)) is not None:
            break
        if not announced:
            announced = True
            print(f"{name}: waiting for another process, which decodes these pictures", file=errors())
        time.sleep(POLL)
        beat()
    try:
        file = _open_file(place)  # another process may have finished it and ended meanwhile
        if file is None:
            _make_room(place.parent, room)
            fill(descriptor, lambda _: _space(place.parent))
            os.rename(unfinished, place)
            _locked(descriptor, shared=True)  # the file that is opened next shares this lock
            file = _open_file(place)
        return file
    finally:
        if _is_at(descriptor, unfinished):
            unfinished.unlink()
        os.close(descriptor)


def _claimed(unfinished: Path) -> int | None:
    """Returns the open and locked file for this process to fill; None if another process is filling it."""
    descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    claimed = False
    try:
        claimed = _locked(descriptor) and _is_at(descriptor, unfinished)
    finally:
        if not claimed:
            os.close(descriptor)
    return descriptor if claimed else None


def _key(pictures: ImagesFrom, heartbeat: Heartbeat) -> str:
    """Returns a name that is a hash of everything that decides the pixels.

    A file changed within the last two seconds may change again without a new time stamp. So the function first waits
    until two seconds have passed.
    """
    status = _status(pictures, heartbeat)
    if (left := int(status.max()) + SETTLED - time.time_ns()) > 0:
        time.sleep(min(left, SETTLED) / 1e9)
        status = _status(pictures, heartbeat)
    codecs = [features.version(name) for name in ("jpg", "libtiff", "webp")]
    made_by = (FORMAT, VERSION, PIL.__version__, codecs, torch.__version__, platform.machine())
    location = os.fspath(pictures.store.location.resolve())
    data = (location, pictures.fingerprint, pictures.side, pictures.channels, pictures.image.levels)
    return hashlib.sha256(repr((made_by, data)).encode(errors="surrogateescape") + status.tobytes()).hexdigest()


def _status(pictures: ImagesFrom, heartbeat: Heartbeat) -> np.ndarray:
    """Returns the status of all files, (N, 3) int64, with heartbeats in between, since a slow disk takes long."""
    status = []
    for begin in range(0, len(pictures), LISTED):
        status.append(pictures.store.status(begin, begin + LISTED))
        heartbeat.beat()
    return np.concatenate(status)


def _open_file(place: Path) -> _File | None:
    """Returns the finished file at `place`, or None if there is none.

    The file is marked as used now, and locked so that no process removes it to make room. A damaged file is removed
    with a warning.
    """
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        PictureFile(os.dup(descriptor))
    except (OSError, ValueError) as error:
        os.close(descriptor)
        warnings.warn(f"{place} is damaged ({error}) and is made anew", stacklevel=2)
        place.unlink(missing_ok=True)
        return None
    with suppress(OSError):
        os.utime(place)
        _locked(descriptor, shared=True)
    return _File(descriptor, os.fspath(place))


def _locked(descriptor: int, shared: bool = False) -> bool:
    """Returns True, with the file locked until it is closed, or False if the lock of another process prevents this.
    Shared locks do not exclude each other."""
    import fcntl  # absent on Windows

    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Returns True if the path still leads to the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _space(caches: Path) -> tuple[int, int]:
    """Returns the bytes that all caches in the folder take, and the bytes that are free on its disk."""
    taken = 0
    for path in caches.iterdir():
        with suppress(FileNotFoundError):
            taken += path.stat().st_size
    return taken, shutil.disk_usage(caches).free


def _make_room(caches: Path, wanted: int) -> None:
    """Removes files left by killed processes, then caches until a cache of `wanted` bytes fits.

    The least recently used caches are removed first. Caches that a process has open stay, since removing them would
    free no space.
    """
    for unfinished in caches.glob("*.part"):
        _remove_unused(unfinished)
    used = {}
    for path in caches.iterdir():
        with suppress(FileNotFoundError):
            used[path] = path.stat().st_mtime_ns
    for path in sorted((path for path in used if path.suffix != ".part"), key=used.__getitem__):
        if _fits(wanted, *_space(caches)):
            return
        _remove_unused(path)


def _remove_unused(path: Path) -> None:
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            if _locked(descriptor):
                path.unlink()
        finally:
            os.close(descriptor)


def _fits(more: int, taken: int, free: int) -> bool:
    """Returns True if caches with `more` bytes added take no more space than is then still free."""
    return taken + more <= free - more


def _decode(
    pictures: ImagesFrom,
    descriptor: int,
    space: Space,
    workers: int,
    heartbeat: Heartbeat,
) -> None:
    """Fills the file with the pictures in their order, as far as they fit.

    space: a function from the bytes in the file to the bytes that caches take, and the bytes that are free beside them.
    """
    file = PictureWriter(descriptor, len(pictures), pictures.channels)
    pieces = torch.arange(len(pictures)).split(PIECE)
    processes = cores() if workers and pictures.pixel_bytes > ALONE else 0
    loaded = load_each(_Decoder(pictures), map(Request, pieces), processes)
    synced = time.monotonic()
    with closing(loaded), shown_progress(pictures.name, len(pictures)) as show:
        for index, piece in zip(pieces, loaded, strict=True):
            if not _fits(piece.pixels.nbytes, *space(file.size)):
                break
            try:
                file.append(index.tolist(), piece.pixels.numpy().data, piece.table, piece.reasons)
            except OSError:  # other processes have used up the space meanwhile
                break
            show(int(index[-1]) + 1)
            if time.monotonic() - synced > 1:
                os.fsync(descriptor)  # every second, so that the last sync does not take minutes
                synced = time.monotonic()
            heartbeat.beat()
    file.finish()


class _Piece(NamedTuple):
    """Pictures one after the other, (bytes,) uint8, their rows of the file's table, and the reasons for unreadable
    rows."""

    pixels: Tensor
    table: np.ndarray
    reasons: dict[int, str]


@dataclass(frozen=True)
class _Decoder:
    """A decoder of pictures, which records unreadable ones instead of replacing them."""

    pictures: ImagesFrom

    @property
    def name(self) -> str:
        return self.pictures.name

    def id(self, index: int) -> str:
        return self.pictures.id(index)

    def load(self, request: Request) -> _Piece:
        index = request.index.tolist()
        table, reasons, flat, end = np.zeros(len(index), TABLE), dict[int, str](), [np.empty(0, np.uint8)], 0
        for position, row in enumerate(index):
            try:
                pixels = self.pictures.decode(row)
            except Unreadable as error:
                # An error of the system may pass, so the picture counts as absent; a damaged file stays damaged.
                passing = isinstance(cause := error.__cause__, MemoryError) or getattr(cause, "errno", None) is not None
                table[position]["offset"] = ABSENT if passing else UNREADABLE
                reasons[row] = str(error)
                continue
            flat.append(np.ascontiguousarray(pixels).ravel())
            table[position] = (end, *pixels.shape[1:], zlib.crc32(flat[-1].data))
            end += pixels.size
        pixels = zeros(max(1, end))[:end]  # a worker process shares it, and shared memory cannot have 0 bytes
        np.concatenate(flat, out=pixels.numpy())
        return _Piece(pixels, table, reasons)
