"""The binary versions of CIFAR-10 and CIFAR-100 (Krizhevsky 2009).

A record begins with one byte of label. In CIFAR-100 there are two, coarse and fine, of which the fine one is used. Then
come 3 x 32 x 32 bytes of pixels, channel by channel.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from sanslabel.errors import BadInput, bad_input_as
from sanslabel.memory_limits import main_memory
from sanslabel.sources.arrays import Arrays, Splits, Stored, arrays_of_images, checked_labels
from sanslabel.sources.source import Wanted

_PIXELS = 3 * 32 * 32
_NAMES = 1 << 16
"""most bytes of the file of class names; CIFAR-100's takes 1,000"""


def splits(data: str | Path) -> tuple[str, ...] | None:
    """Returns the splits of a folder of CIFAR's files; None for anything else."""
    folder = Path(data)
    return (tuple(stored_in(folder).stored) or None) if folder.is_dir() else None


def open_source(data: str | Path, split: str, wanted: Wanted) -> Arrays | None:
    """Returns the images of a split, or of "all"; None if the folder holds no CIFAR files."""
    folder = Path(data)
    stored = stored_in(folder)
    return arrays_of_images(folder.resolve().name, stored, split, wanted) if stored.stored else None


def stored_in(folder: Path) -> Splits:
    """Returns the splits whose files are in the folder; none if it holds no CIFAR files."""
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
        if len(names := file.read(_NAMES + 1)) > _NAMES:
            raise BadInput(f"{path} is no list of a hundred names; fetch it again, or remove it.")
        return tuple(names.decode().split())


def _records(path: Path, label_bytes: int) -> np.ndarray:
    """Returns the records of a file, (N, label bytes + 3072) uint8, mapped from it. Raises BadInput."""
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
