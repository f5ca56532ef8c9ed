"""The fingerprint of a store of files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import BinaryIO, Protocol

import numpy as np

from sanslabel.randomness import permutation
from sanslabel.sources.stores.store import Unreadable

LARGEST_HASHED = 1 << 24
"""bytes up to which the content of a file enters the fingerprint"""
READ = 64
"""number of files whose content enters the fingerprint"""


class Content(Protocol):
    """The part of a store that its fingerprint depends on."""

    @property
    def names(self) -> Sequence[str]: ...
    @property
    def first_status(self) -> np.ndarray: ...
    def open(self, index: int) -> BinaryIO: ...


def fingerprint_of(store: Content) -> str:
    """Returns a SHA-256 of all paths, of all sizes, and of the content of a fixed sample of the files.

    A copy of the data has the same fingerprint, in a folder or in archives; times of files do not count.
    """
    digest = hashlib.sha256(os.fsencode("\0".join(store.names)))
    sizes, done = store.first_status[:, 0].astype("<i8"), 0
    for row in sorted(permutation(0, len(store.names))[:READ].tolist()):
        content = b""
        if sizes[row] <= LARGEST_HASHED:
            try:
                with store.open(row) as file:
                    content = file.read()
            except (OSError, Unreadable):
                sizes[row] = -1
        digest.update(sizes[done : row + 1].tobytes() + content)
        done = row + 1
    digest.update(sizes[done:].tobytes())
    return digest.hexdigest()
