"""Decoded pictures of a folder, kept in main memory for one run or on disk for all that come.

A cache takes no more of its place than it leaves free there; pictures that do not fit are decoded each time. Batches
are the same bits with a cache and without, and nothing that goes wrong with one stops a run.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import shutil
import socket
import time
import warnings
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import PIL
import torch
from PIL import features
from torch import Tensor

from sanslabel.console import errors
from sanslabel.device import cores
from sanslabel.distributed import all_reduce_max, gather_objects, rank
from sanslabel.errors import BadInput
from sanslabel.memory_limits import free_memory, main_memory
from sanslabel.settings import Cache
from sanslabel.sources.decoded import ABSENT, FORMAT, TABLE, UNREADABLE, Decoded, Unfinished
from sanslabel.sources.folder import Folder, status, zeros
from sanslabel.sources.listing import SETTLED, cache_folder
from sanslabel.sources.picture import VERSION, Unreadable, picture
from sanslabel.sources.source import Request, Source
from sanslabel.sources.workers import load_each

PIECE = 16
"""pictures that are decoded and written at a time: each process has two pieces on the way, in shared memory, of which a
container may have 64 MiB"""
ALONE = 64 << 20
"""bytes of pictures up to which one process decodes them in less time than others take to start"""
LISTED = 10_000
"""files that are asked for their status at a time"""
BEAT, PAUSE = 1.0, 10.0
"""seconds after which other processes of the run are told of, and a person"""
T = TypeVar("T")


class _File(NamedTuple):
    """Of decoded pictures, whole."""

    descriptor: int
    path: str
    """where other processes of this machine find it while this one holds it open"""


def kinds() -> list[Cache]:
    """That the system can have."""
    if not hasattr(os, "preadv"):
        return []
    return ["ram", "disk"] if hasattr(os, "memfd_create") else ["disk"]


def fitting(source: Source, epochs: int) -> Cache:
    """Main memory for pictures that are read more than once and take, as a sample says, up to a quarter of it and half
    of what is free. A disk is not filled unasked."""
    if epochs < 2 or not isinstance(source, Folder) or "ram" not in kinds():
        return "none"
    return "ram" if source.decoded_bytes <= min(main_memory() // 4, free_memory() // 2) else "none"


def cached(source: Source, kind: Cache, workers: int) -> Source:
    """The source with its pictures decoded beforehand, once on each machine, by all of its cores unless `workers` is 0.
    Other processes of the run wait for it. A source that need not decode stays as it is."""
    if kind == "none" or not isinstance(source, Folder):
        return source
    machine = _machine()
    first = gather_objects([machine]).index(machine)
    own = None
    for found in _together(_made(source, kind, workers) if rank() == first else iter(())):
        own = found or own
    path = gather_objects([own.path if own else None])[first]
    if path is None:
        return source
    try:
        decoded = Decoded(own.descriptor if own else os.open(path, os.O_RDONLY))
    except (OSError, ValueError) as error:
        _tell_of_none(source, kind, error)
        decoded = None
    gather_objects([None])  # whoever holds it has waited for those who open it
    found = replace(source, decoded=decoded)
    if own and decoded and found.decodes and decoded.unfitting:
        place = "main memory" if kind == "ram" else "disk"
        again = "" if kind == "ram" else f"; with more room, remove {path} to have it made anew"
        warnings.warn(
            f"{source.name}: {decoded.unfitting:,} of {len(source):,} pictures are decoded each time, since a cache"
            f" takes no more of the {place} than it leaves free{again}",
            stacklevel=2,
        )
    return found


def _together(items: Iterator[T]) -> Iterator[T | None]:
    """The items, and None for as long as other processes have some: none waits longer than another's next item takes,
    and so none gives up."""
    end = object()
    while all_reduce_max(int((item := next(items, end)) is not end))[0]:
        yield None if item is end else item  # pyright: ignore[reportReturnType]


def _machine() -> str:
    """Of processes that can open each other's open files."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/pid")
    return socket.gethostname()


def _made(folder: Folder, kind: Cache, workers: int) -> Iterator[_File | None]:
    """Now and then None, and at the end the file; nothing if there can be none."""
    try:
        if kind not in kinds():
            raise OSError(errno.ENOTSUP, f"not on {platform.system()}")
        yield from (_in_memory if kind == "ram" else _on_disk)(folder, workers)
    except (OSError, BadInput, RuntimeError, MemoryError) as error:  # of worker processes that die, or have no room
        _tell_of_none(folder, kind, error)


def _tell_of_none(folder: Folder, kind: Cache, error: Exception) -> None:
    reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
    warnings.warn(
        f"{folder.name}: --cache {kind} cannot be had ({reason}); pictures are decoded each time", stacklevel=2
    )


def _in_memory(folder: Folder, workers: int) -> Iterator[_File | None]:
    """A file without a name, which is gone with the last process that has it open."""
    descriptor = os.memfd_create("sanslabel", os.MFD_CLOEXEC)
    try:
        yield from _decoded(folder, descriptor, lambda taken: (taken, free_memory()), workers)
        yield _File(descriptor, f"/proc/{os.getpid()}/fd/{descriptor}")
    except BaseException:
        os.close(descriptor)
        raise


def _on_disk(folder: Folder, workers: int) -> Iterator[_File | None]:
    """A file in the user's cache folder, of an earlier run or made now, under another name until it is whole. Who makes
    it holds a lock on it, which the system releases however that process ends."""
    place = cache_folder() / "pictures" / (yield from _key(folder))
    part = place.with_suffix(".part")
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    told = False
    while True:
        if (found := _opened(place)) is not None:
            yield found
            return
        if (descriptor := _claimed(part)) is not None:
            break
        if not told:
            told = True
            print(f"{folder.name}: waiting for another process, which decodes these pictures", file=errors())
        time.sleep(BEAT)
        yield None
    try:
        found = _opened(place)  # by one that has ended since
        if found is None:
            _make_room(place.parent, folder.decoded_bytes)
            yield from _decoded(folder, descriptor, lambda _: _space(place.parent), workers)
            os.rename(part, place)
            _locked(descriptor, shared=True)  # what is opened now shares it
            found = _opened(place)
        yield found
    finally:
        if _is_at(descriptor, part):
            part.unlink()
        os.close(descriptor)


def _claimed(part: Path) -> int | None:
    """The file, open, for whoever is to fill it; None where another process does."""
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    claimed = False
    try:
        claimed = _locked(descriptor) and _is_at(descriptor, part)
    finally:
        if not claimed:
            os.close(descriptor)
    return descriptor if claimed else None


def _key(folder: Folder) -> Generator[None, None, str]:
    """Of all that decides the pixels. A file that has changed within the last two seconds may do so again under the
    same time: that is waited for. None once a second."""
    said = yield from _status(folder)
    if (left := int(said.max()) + SETTLED - time.time_ns()) > 0:
        time.sleep(min(left, SETTLED) / 1e9)
        said = yield from _status(folder)
    codecs = [features.version(name) for name in ("jpg", "libtiff", "webp")]
    made_by = (FORMAT, VERSION, PIL.__version__, codecs, torch.__version__, platform.machine())
    of = (os.fspath(folder.root.resolve()), folder.fingerprint, folder.side, folder.channels)
    return hashlib.sha256(repr((made_by, of)).encode(errors="surrogateescape") + said.tobytes()).hexdigest()


def _status(folder: Folder) -> Generator[None, None, np.ndarray]:
    """Of all files, of which there may be many on a slow disk."""
    found, last = [status(folder.root, [])], time.monotonic()
    for begin in range(0, len(folder), LISTED):
        found.append(status(folder.root, folder.paths[begin : begin + LISTED]))
        if time.monotonic() - last > BEAT:
            yield None
            last = time.monotonic()
    return np.concatenate(found)


def _opened(place: Path) -> _File | None:
    """The file there, marked as used now and held against those who make room; None where there is none. One that is
    damaged is told of and removed."""
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        Decoded(os.dup(descriptor))
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
    """Whether the file is held from now on until it is closed; not if another process holds it, both shared aside."""
    import fcntl  # which Windows has not

    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file still has that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _space(caches: Path) -> tuple[int, int]:
    """Bytes that all caches in the folder take, and those free on its disk."""
    taken = 0
    for path in caches.iterdir():
        with suppress(FileNotFoundError):
            taken += path.stat().st_size
    return taken, shutil.disk_usage(caches).free


def _make_room(caches: Path, wanted: int) -> None:
    """Removes what killed processes have left, and then the caches that were not used for the longest, until one of so
    many bytes fits or none is left but those that somebody reads, which would free nothing."""
    for part in caches.glob("*.part"):
        _remove_unused(part)
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
    """Whether what is taken stays within what is left free."""
    return taken + more <= free - more


def _decoded(folder: Folder, descriptor: int, space: Callable[[int], tuple[int, int]], workers: int) -> Iterator[None]:
    """Fills the file with the folder's pictures in their order, as far as they fit: `space` says for the bytes in it
    what is taken of its place and what is free there. None once a second."""
    file, last = Unfinished(descriptor, len(folder), folder.channels), time.monotonic()
    rows = [list(range(begin, min(begin + PIECE, len(folder)))) for begin in range(0, len(folder), PIECE)]
    processes = cores() if workers and folder.decoded_bytes > ALONE else 0
    with (
        closing(load_each(_Decoder(folder), (Request(torch.tensor(chosen)) for chosen in rows), processes)) as pieces,
        _shown(folder) as show,
    ):
        for chosen, piece in zip(rows, pieces, strict=True):
            if not _fits(piece.pixels.nbytes, *space(file.size)):
                break
            try:
                file.append(chosen, piece.pixels.numpy().data, piece.table, piece.reasons)
            except OSError:  # others have filled the place meanwhile
                break
            show(chosen[-1] + 1)
            if time.monotonic() - last > BEAT:
                os.fsync(descriptor)  # a little each time, so that the last one does not take minutes
                yield None
                last = time.monotonic()
    file.finish()


class _Piece(NamedTuple):
    """Pictures one behind the other, (bytes,) uint8, with their part of a file's table and the reasons by row."""

    pixels: Tensor
    table: np.ndarray
    reasons: dict[int, str]


@dataclass(frozen=True)
class _Decoder:
    """Decodes what a folder would replace, too."""

    folder: Folder

    @property
    def name(self) -> str:
        return self.folder.name

    def id(self, index: int) -> str:
        return self.folder.id(index)

    def load(self, request: Request) -> _Piece:
        index = request.index.tolist()
        table, reasons, parts, end = np.zeros(len(index), TABLE), dict[int, str](), [np.empty(0, np.uint8)], 0
        for position, row in enumerate(index):
            try:
                pixels = picture(self.folder.root / self.folder.paths[row], self.folder.channels, self.folder.side)
            except Unreadable as error:
                # What the system refuses now it may give later; a damaged file stays damaged.
                passing = isinstance(cause := error.__cause__, MemoryError) or getattr(cause, "errno", None) is not None
                table[position]["offset"] = ABSENT if passing else UNREADABLE
                reasons[row] = str(error)
                continue
            parts.append(np.ascontiguousarray(pixels).ravel())
            table[position] = (end, *pixels.shape[1:], zlib.crc32(parts[-1].data))
            end += pixels.size
        pixels = zeros(max(1, end))[:end]  # a worker process shares it, and no memory of no bytes is to be had
        np.concatenate(parts, out=pixels.numpy())
        return _Piece(pixels, table, reasons)


@contextmanager
def _shown(folder: Folder) -> Iterator[Callable[[int], None]]:
    """Yields `show(pictures done)`: a bar on a terminal, elsewhere a line every ten seconds."""
    screen = errors()
    if rank() > 0:
        yield lambda done: None
    elif screen.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(bar_width=10), MofNCompleteColumn())
        with Progress(*columns, TimeRemainingColumn(), console=Console(file=screen), transient=True) as bar:
            task = bar.add_task(f"{folder.name}: decoding", total=len(folder))
            yield lambda done: bar.update(task, completed=done)
    else:
        start = last = time.monotonic()

        def show(done: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= PAUSE:
                last, left = now, (now - start) / done * (len(folder) - done)
                print(f"{folder.name}: {done:,} of {len(folder):,} decoded  {left:.0f} s left", file=screen)

        yield show
