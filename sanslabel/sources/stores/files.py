"""Files in a folder as a store."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from sanslabel.sources.stores.store import open_regular


@dataclass(frozen=True)
class Files:
    """Files below a folder."""

    location: Path
    names: list[str]
    """paths relative to the folder"""

    def open(self, index: int) -> BinaryIO:
        return open_regular(self.location / self.names[index])

    def status(self, begin: int = 0, end: int | None = None) -> np.ndarray:
        """Returns sizes and times of files, (n, 3) int64, see `Store.status`.

        A million files take 2.7 s. Neither threads nor open folders make this faster.
        """
        status, folder = array("q"), os.fspath(self.location)
        for name in self.names[begin:end]:
            try:
                entry = os.stat(f"{folder}/{name}")
                status.extend((entry.st_size, entry.st_mtime_ns, entry.st_ctime_ns))
            except OSError:
                status.extend((-1, -1, -1))
        return np.frombuffer(status, np.int64).reshape(-1, 3)

    def subset(self, index: Sequence[int]) -> Files:
        return replace(self, names=[self.names[row] for row in index])
