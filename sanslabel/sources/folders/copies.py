"""Files that a store holds several times, as links or as files with the same bytes.

The groups are remembered between runs, so that many files of equal size are compared once.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Container, Hashable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from sanslabel.sources.pictures.stored_picture import size
from sanslabel.sources.remarks import first_names
from sanslabel.sources.stores.listing import SETTLED, cache_folder, remember_arrays
from sanslabel.sources.stores.store import Store, Unreadable
from sanslabel.wording import counted

FORMAT = 1
PROBE = 4096
"""bytes from the middle of a file that are compared before all of its bytes"""
REMEMBERED_FROM = 1000
"""smallest number of compared files whose groups are kept; comparing fewer takes some ten milliseconds"""


def equal_pictures(store: Store) -> list[list[int]]:
    """Returns the groups of pictures with the same bytes, see `equal_files`."""
    return equal_files(store, partial(_is_picture, store))


def equal_files(store: Store, readable: Callable[[int], bool]) -> list[list[int]]:
    """Returns the groups of files with the same bytes, each as its rows in ascending order.

    Only files of equal size are compared: first by their place on disk, then by some bytes, last by all bytes. Files
    that are not `readable` have no copies, since each of them must be reported.
    """
    status = store.first_status
    equal_sizes = _equal_sizes(status[:, 0])
    compared = sum(map(len, equal_sizes))
    if compared < REMEMBERED_FROM:
        return _compared(store, equal_sizes, readable)
    memory = cache_folder() / "copies" / f"{_hash(os.fsencode(store.location.absolute()))}.npz"
    key = _hash(os.fsencode("\0".join(store.names)), status.tobytes())
    if (groups := _remembered(memory, key)) is not None:
        return groups
    groups = _compared(store, equal_sizes, readable)
    if status.max() < time.time_ns() - SETTLED:
        _remember(groups, memory, key)
    return groups


def left_out(
    store: Store, groups: Iterable[list[int]], tested: Container[int], class_of: Mapping[int, str]
) -> dict[int, int]:
    """Returns the copies that are left out: row -> row of the picture that is used instead.

    A picture to be measured on is used rather than one to be trained on, one with a label rather than one without, and
    a file rather than a link. Of the remaining ones, the first is used.
    """
    used_instead = {}
    for group in groups:
        used = min(group, key=lambda row: (row not in tested, row not in class_of, store.is_link(row), row))
        used_instead |= {row: used for row in group if row != used}
    return used_instead


def remarks_on_copies(
    store: Store,
    used_instead: Mapping[int, int],
    tested: Container[int],
    class_of: Mapping[int, str],
    count: int,
    kind: str = "picture",
) -> tuple[str, ...]:
    """Returns what a person should know about the copies that are left out.

    count: the number of files, with copies. kind: the word for a file in remarks.
    """
    if not used_instead:
        return ()
    are = "is a copy" if len(used_instead) == 1 else "are copies"
    remarks = [f"{len(used_instead):,} of {count:,} {kind}s {are} of others; each is used once."]
    crossing = [row for row, used in used_instead.items() if row not in tested and used in tested]
    differing = [row for row, used in used_instead.items() if row in class_of and class_of[row] != class_of[used]]
    if crossing:
        remarks.append(f"Not trained on, as copies of test {kind}s: {_named(store, crossing, kind)}.")
    if differing:
        remarks.append(f"Copies with another label than the {kind} that is used: {_named(store, differing, kind)}.")
    return tuple(remarks)


def _named(store: Store, index: list[int], kind: str) -> str:
    return f"{counted(len(index), kind)} ({first_names([store.names[row] for row in index])})"


def _equal_sizes(sizes: np.ndarray) -> list[list[int]]:
    """Returns the groups of files with the same size; missing and empty files belong to none."""
    order = np.argsort(sizes, kind="stable")
    order = order[sizes[order] > 0]
    borders = np.flatnonzero(np.diff(sizes[order])) + 1
    return [group.tolist() for group in np.split(order, borders) if len(group) > 1]


def _compared(store: Store, equal_sizes: Iterable[list[int]], readable: Callable[[int], bool]) -> list[list[int]]:
    groups = []
    for candidates in equal_sizes:
        by_place = _divided(candidates, store.place)  # names and links of one file
        names_of = {names[0]: names for names in by_place}
        equal = [list(names_of)]
        for digest in (partial(_digest, store, probe=True), partial(_digest, store)):
            equal = [files for before in equal for files in (_divided(before, digest) if len(before) > 1 else [before])]
        groups += [sorted(row for file in files for row in names_of[file]) for files in equal]
    return sorted(group for group in groups if len(group) > 1 and readable(group[0]))


def _divided(candidates: Iterable[int], value: Callable[[int], Hashable]) -> list[list[int]]:
    """Returns the groups of candidates with the same value. A file that cannot be read belongs to none."""
    groups: dict[Hashable, list[int]] = {}
    for row in candidates:
        with suppress(OSError, Unreadable):
            groups.setdefault(value(row), []).append(row)
    return list(groups.values())


def _digest(store: Store, row: int, probe: bool = False) -> bytes:
    """Returns a hash of a file's bytes, or only of the `PROBE` bytes in its middle."""
    with store.open(row) as file:
        if probe:
            file.seek(max(0, file.seek(0, os.SEEK_END) - PROBE) // 2)
            return hashlib.sha256(file.read(PROBE)).digest()
        digest = hashlib.sha256()
        while content := file.read(1 << 20):
            digest.update(content)
        return digest.digest()


def _is_picture(store: Store, row: int) -> bool:
    try:
        size(partial(store.open, row))
    except Unreadable:
        return False
    return True


def _hash(*contents: bytes) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


def _remembered(memory: Path, key: str) -> list[list[int]] | None:
    """Returns the groups of an earlier run, if no file has changed since."""
    try:
        with memory.open("rb") as file, np.load(file, allow_pickle=False) as content:
            if int(content["format"]) != FORMAT or str(content["key"]) != key:
                return None
            members, ends = content["members"].tolist(), content["ends"].tolist()
            return [members[begin:end] for begin, end in pairwise([0, *ends])]
    except Exception:  # missing or damaged in any way: compare again
        return None


def _remember(groups: list[list[int]], memory: Path, key: str) -> None:
    remember_arrays(
        memory,
        format=np.array(FORMAT),
        key=np.array(key),
        members=np.array([row for group in groups for row in group], np.int64),
        ends=np.cumsum([len(group) for group in groups], dtype=np.int64),
    )
