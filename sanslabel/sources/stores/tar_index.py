"""The places of images in tar archives, remembered between runs so that a million of them are looked up once."""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from array import array
from collections import Counter
from contextlib import suppress
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sanslabel.errors import BadInput
from sanslabel.sources.stores.listing import (
    REMEMBERED_FROM,
    SETTLED,
    SUFFIXES,
    cache_folder,
    packed_strings,
    remember_arrays,
    unpacked_strings,
)
from sanslabel.sources.stores.tar_headers import BLOCK, READ, Damaged, Member, members, read_at

FORMAT = 1
KEPT = 64
"""most indices in the user's cache folder; the least recently used ones are removed"""
LARGEST_LABEL = 1 << 16
"""most bytes of a .cls or .json file that is read for a label"""
PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\3\4": "zip"}
"""first bytes of compressed archives, with the names of the compressions"""


class Shard(NamedTuple):
    """An archive, with its size and time, which show whether it has changed."""

    path: str
    """relative to the folder of the archives"""
    size: int
    changed: int
    """time of the last change of its content, in ns"""


class Index(NamedTuple):
    """The images in archives, sorted by name."""

    shards: tuple[Shard, ...]
    names: list[str]
    """path of each image, as if the archives were unpacked where they lie"""
    shard: np.ndarray
    """(N,) int32, the archive of each image"""
    offset: np.ndarray
    """(N,) int64, in bytes"""
    size: np.ndarray
    """(N,) int64, in bytes"""
    label: np.ndarray
    """(N,) int32, position in `label_names`, -1 where there is none"""
    label_names: list[str]
    """labels as .cls and .json files state them, in the order of their first use"""


def archives(path: Path) -> list[str]:
    """Returns the archives that a path names, relative to their folder: the file itself, or the archives in a folder.

    A folder counts if it holds no images, and no folders except `train`, `test` and `val`, whose archives count, too.
    Any other path has no archives.
    """
    if path.is_file():
        return [path.name] if path.name.lower().endswith((".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")) else []
    return sorted(_archives_in(path, "") or [])


def _archives_in(root: Path, folder: str) -> list[str] | None:
    """Returns the archives of a folder of archives; None if it is another kind of folder."""
    names: list[str] = []
    try:
        with os.scandir(root / folder) as entries:
            for entry in entries:
                suffix = os.path.splitext(entry.name)[1].lower()
                if entry.name.startswith("."):
                    continue
                if suffix == ".tar" and entry.is_file():
                    names.append(f"{folder}{entry.name}")
                elif suffix in SUFFIXES:
                    return None
                elif entry.is_dir():
                    below = _archives_in(root, f"{entry.name}/") if not folder and entry.name in _DIVIDED else None
                    if below is None:
                        return None
                    names += below
    except OSError:
        return None
    return names


_DIVIDED = ("train", "test", "val")


def index_of(path: Path) -> Index:
    """Returns the index of an archive or of a folder of archives.

    It is remembered in the user's cache folder, and made anew if an archive's size or time has changed. Raises BadInput
    for archives that are damaged, compressed, unreadable, or hold two images of one name.
    """
    folder = path.parent if path.is_file() else path
    shards = []
    for name in archives(path):
        try:
            status = os.stat(folder / name)
        except OSError as error:
            raise BadInput(f"{folder / name} cannot be read ({error.strerror}); make it readable.") from error
        shards.append(Shard(name, status.st_size, status.st_mtime_ns))
    settled = max((shard.changed for shard in shards), default=0) < time.time_ns() - SETTLED
    return (_index_in_memory if settled else _index)(path, folder, tuple(shards))


@lru_cache(maxsize=1)
def _index_in_memory(path: Path, folder: Path, shards: tuple[Shard, ...]) -> Index:
    """Returns the index of these shards. The last index stays in memory, since first splits and then samples need
    it."""
    return _index(path, folder, shards)


def _index(path: Path, folder: Path, shards: tuple[Shard, ...]) -> Index:
    memory = cache_folder() / "archives" / (hashlib.sha256(os.fsencode(path.absolute())).hexdigest() + ".npz")
    if (index := _remembered(memory, shards)) is not None:
        return index
    now = time.time_ns()
    index = _built(folder, shards)
    if len(index.names) >= REMEMBERED_FROM and max(shard.changed for shard in shards) < now - SETTLED:
        _remember(index, memory)
    return index


class _Unsorted:
    """Images in the order of the archives, with the labels of their samples.

    The members of a sample have one key: the path up to the first dot of its last component. If the members of a sample
    follow each other, as WebDataset writes them, their key need not be kept.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.shard, self.offset, self.size, self.label = array("i"), array("q"), array("q"), array("i")
        self.label_names: dict[str, int] = {}
        self.strays: dict[str, int] = {}
        """labels, by key, of samples whose image does not stand beside the label"""
        self.key, self.label_of_key, self.first = "", -1, 0

    def begin(self, key: str) -> None:
        """Ends the previous sample and begins the sample of this key, unless it has begun already."""
        if key == self.key:
            return
        if self.label_of_key >= 0:
            if self.first == len(self.names):
                self.strays[self.key] = self.label_of_key
            for row in range(self.first, len(self.names)):
                self.label[row] = self.label_of_key
        self.key, self.label_of_key, self.first = key, -1, len(self.names)

    def add(self, name: str, shard: int, member: Member) -> None:
        """Adds an image."""
        self.begin(_key(name))
        self.names.append(name)
        self.shard.append(shard)
        self.offset.append(member.offset)
        self.size.append(member.size)
        self.label.append(-1)

    def add_label(self, name: str, label: str) -> None:
        """Adds the label of a sample."""
        self.begin(_key(name))
        self.label_of_key = self.label_names.setdefault(label, len(self.label_names))

    def sorted(self, folder: Path, shards: tuple[Shard, ...]) -> Index:
        """Returns the index of all images, sorted by name. If an archive has a name several times, its last image
        counts."""
        self.begin("\0")
        names, label = self.names, np.frombuffer(self.label, np.int32)
        if self.strays:
            without = np.flatnonzero(label < 0)
            label = label.copy()
            label[without] = [self.strays.get(_key(names[row]), -1) for row in without.tolist()]
        order = np.fromiter(sorted(range(len(names)), key=names.__getitem__), np.int64, len(names))
        self.names = names = list(map(names.__getitem__, order))
        shard = np.frombuffer(self.shard, np.int32)[order]
        doubled = [row for row, (name, after) in enumerate(pairwise(names)) if name == after]
        for row in doubled:
            if shard[row] != shard[row + 1]:
                one, other = shards[shard[row]].path, shards[shard[row + 1]].path
                raise BadInput(
                    f"{folder}: {one} and {other} both hold {names[row]}; give each image a name of its own."
                )
        if doubled:
            left_out = set(doubled)
            names = [name for row, name in enumerate(names) if row not in left_out]
        order, shard = np.delete(order, doubled), np.delete(shard, doubled)
        return Index(
            shards,
            names,
            shard,
            np.frombuffer(self.offset, np.int64)[order],
            np.frombuffer(self.size, np.int64)[order],
            label[order],
            list(self.label_names),
        )


def _built(folder: Path, shards: tuple[Shard, ...]) -> Index:
    unsorted, left_out = _Unsorted(), Counter[str]()
    for number, shard in enumerate(shards):
        path = folder / shard.path
        try:
            descriptor = os.open(path, READ)
        except OSError as error:
            raise BadInput(f"{path} cannot be read ({error.strerror}); make it readable.") from error
        try:
            _check_plain(descriptor, path)
            prefix = shard.path.rpartition("/")[0]
            for member in members(descriptor):
                suffix = os.path.splitext(member.name)[1].lower()
                if suffix not in SUFFIXES and suffix not in (".cls", ".json"):
                    continue
                name = _clean(member.name)
                if name is None:
                    left_out["names that lead elsewhere"] += suffix in SUFFIXES
                    continue
                if any(folder.startswith(".") for folder in name.split("/")):  # hidden, as in folders
                    continue
                if not member.is_file:
                    left_out["links, devices or other special files"] += suffix in SUFFIXES
                    continue
                name = f"{prefix}/{name}" if prefix else name
                if suffix in SUFFIXES:
                    unsorted.add(name, number, member)
                elif (label := _label(descriptor, member, suffix)) is not None:
                    unsorted.add_label(name, label)
            if shard.size and any(read_at(descriptor, BLOCK, shard.size - BLOCK)):
                warnings.warn(f"{path} has no mark at its end; if it was cut off, fetch it again", stacklevel=2)
        except Damaged as error:
            raise BadInput(f"{path} is cut off or damaged ({error}); fetch or pack it again.") from None
        except OSError as error:
            raise BadInput(f"{path} cannot be read ({error.strerror}); copy it to another disk.") from error
        finally:
            os.close(descriptor)
    for what, count in left_out.items():
        if count:
            warnings.warn(f"{folder}: images left out of the archives: {count:,} ({what})", stacklevel=2)
    return unsorted.sorted(folder, shards)


def _check_plain(descriptor: int, path: Path) -> None:
    """Raises BadInput for a compressed archive."""
    begin = read_at(descriptor, 8, 0)
    for mark, packer in PACKED.items():
        if begin.startswith(mark):
            raise BadInput(f"{path} is compressed by {packer}: no image in it can be read alone; decompress it first.")


def _clean(name: str) -> str | None:
    """Returns a member's name without "./"; None for a name that leads out of the folder or is not a path."""
    while name.startswith("./"):
        name = name[2:]
    if not name or name.startswith("/") or ".." in name.split("/") or "\n" in name or "\r" in name:
        return None
    if "//" in name or "/./" in name:
        name = "/".join(folder for folder in name.split("/") if folder not in ("", "."))
    return name


def _key(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _label(descriptor: int, member: Member, suffix: str) -> str | None:
    """Returns the label that a .cls or .json file states; None if it states none."""
    if member.size > LARGEST_LABEL:
        return None
    content = read_at(descriptor, member.size, member.offset)
    label: object = None
    with suppress(ValueError, RecursionError):
        if suffix == ".cls":
            label = content.decode().strip()
        elif isinstance(stated := json.loads(content), dict):
            label = stated.get("label", stated.get("cls"))
    if isinstance(label, bool) or not isinstance(label, str | int) or label == "" or "\0" in str(label):
        return None
    return str(label)


def _remembered(memory: Path, shards: tuple[Shard, ...]) -> Index | None:
    """Returns the index of an earlier run, if no archive has changed since."""
    try:
        with memory.open("rb") as file, np.load(file, allow_pickle=False) as content:
            if int(content["format"]) != FORMAT:
                return None
            paths = unpacked_strings(content["shard_paths"])
            sizes, times = content["shard_sizes"].tolist(), content["shard_times"].tolist()
            if tuple(map(Shard, paths, sizes, times)) != shards:
                return None
            arrays = [content[name] for name in ("shard", "offset", "size", "label")]
            names, label_names = unpacked_strings(content["names"]), unpacked_strings(content["label_names"])
            if any(array.shape != (len(names),) for array in arrays):
                return None
            shard, offset, size, label = arrays
            if len(names) and not (shard.min() >= 0 and shard.max() < len(shards) and label.max() < len(label_names)):
                return None
        os.utime(memory)
        return Index(shards, names, shard, offset, size, label, label_names)
    except Exception:  # missing or damaged in any way: make it again
        return None


def _remember(index: Index, memory: Path) -> None:
    remember_arrays(
        memory,
        format=np.array(FORMAT),
        shard_paths=packed_strings([shard.path for shard in index.shards]),
        shard_sizes=np.array([shard.size for shard in index.shards], np.int64),
        shard_times=np.array([shard.changed for shard in index.shards], np.int64),
        names=packed_strings(index.names),
        shard=index.shard,
        offset=index.offset,
        size=index.size,
        label=index.label,
        label_names=packed_strings(index.label_names),
    )
    with suppress(OSError):
        used = sorted(memory.parent.glob("*.npz"), key=lambda file: file.stat().st_mtime_ns)
        for file in used[:-KEPT]:
            file.unlink(missing_ok=True)
