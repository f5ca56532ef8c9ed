"""The binary versions of CIFAR-10 and CIFAR-100 (Krizhevsky 2009): records of one label byte, or of two (CIFAR-100:
coarse, then fine, which is the one used), and 3 x 32 x 32 bytes of pixels, channel by channel."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from sanslabel.errors import BadInput, bad_input_as
from sanslabel.memory_limits import main_memory
from sanslabel.sources.arrays import Splits, Stored, checked_labels

_PIXELS = 3 * 32 * 32
_NAMES = 1 << 16
"""bytes of the names of classes, at most: CIFAR-100's take 1,000"""


def cifar(folder: Path) -> Splits:
    """The splits whose files are in the folder; none if it holds no CIFAR files."""
    ten = {"train": sorted(folder.glob("data_batch_*.bin")), "test": sorted(folder.glob("test_batch.bin"))}
    hundred = {"train": sorted(folder.glob("train.bin")), "test": sorted(folder.glob("test.bin"))}
    files, label_bytes, names = (
        (ten, 1, "batches.meta.txt") if any(ten.values()) else (hundred, 2, "fine_label_names.txt")
    )
    if not any(files.values()):
        return Splits({})
    classes = _classes(folder / names) if (folder / names).is_file() else ()
    stored = {}
    for split, paths in files.items():
        if paths:
            labels = np.concatenate([_labels(path, label_bytes, len(classes)) for path in paths])
            stored[split] = Stored(partial(_images, paths, label_bytes), labels, paths[0])
    return Splits(stored, classes)


def _classes(path: Path) -> tuple[str, ...]:
    with bad_input_as(path, "fetch it again, or remove it"), path.open("rb") as file:
        if len(said := file.read(_NAMES + 1)) > _NAMES:
            raise BadInput(f"{path} is no list of a hundred names; fetch it again, or remove it.")
        return tuple(said.decode().split())


def _records(path: Path, label_bytes: int) -> np.ndarray:
    """(N, label bytes + 3072), mapped from the file."""
    with bad_input_as(path, "fetch it again"):
        size, record = path.stat().st_size, label_bytes + _PIXELS
        if size == 0 or size % record:
            raise BadInput(
                f"{path} has {size:,} bytes, no multiple of CIFAR's record of {record:,}: it is cut off or damaged;"
                " fetch it again."
            )
        if size > main_memory():
            raise BadInput(f"{path} holds {size:,} bytes, more than this machine's memory; give fewer images.")
        return np.memmap(path, np.uint8, mode="r").reshape(-1, record)


def _labels(path: Path, label_bytes: int, classes: int) -> np.ndarray:
    return checked_labels(_records(path, label_bytes)[:, label_bytes - 1], path, classes)


def _images(paths: list[Path], label_bytes: int) -> np.ndarray:
    pixels = [_records(path, label_bytes)[:, label_bytes:].reshape(-1, 3, 32, 32) for path in paths]
    return np.concatenate(pixels)
