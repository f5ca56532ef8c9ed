"""NumPy's .npz: the array `images` and, if there are any, `labels` and `classes` (names), `waves` and `rate`.

`waves` has the sound of each image, and `rate` its samples in a second. A test split is in `test_images`,
`test_labels` and `test_waves`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from io import BufferedReader, FileIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np

from sanslabel.errors import BadInput, bad_input_as
from sanslabel.sources.arrays import DEFLATED, Arrays, Splits, Stored, arrays_of_images, checked_labels
from sanslabel.sources.numpy_arrays import as_images, as_waves, read_array
from sanslabel.sources.source import Wanted

_PREFIX = {"train": "", "test": "test_"}
_AT_ONCE = 1 << 20
"""most bytes read at once. One read takes the list of an archive's members, so that it has at most some 20,000."""
_NAMES = 1 << 22
"""most bytes of the array of class names"""
_RATES = (1000, 384_000)
"""least and most samples of a sound in a second"""


def splits(data: str | Path) -> tuple[str, ...] | None:
    """Returns the splits of an .npz file; None for anything else."""
    return tuple(stored_in(Path(data)).stored) if _is_npz(Path(data)) else None


def open_source(data: str | Path, split: str, wanted: Wanted) -> Arrays | None:
    """Returns the images of a split, or of "all"; None for anything but an .npz file."""
    path = Path(data)
    return arrays_of_images(path.stem, stored_in(path), split, wanted) if _is_npz(path) else None


def stored_in(path: Path) -> Splits:
    """Returns the splits in an .npz file. Raises BadInput if it is damaged or has no `images`."""
    names = _names(path)
    if "images" not in names:
        raise BadInput(
            f"{path} has no array called images (it has: {', '.join(names) or 'nothing'}); save it with one."
        )
    classes = class_names(path) if "classes" in names else ()
    stored = {}
    for split, prefix in _PREFIX.items():
        if f"{prefix}images" in names:
            labels = None
            if f"{prefix}labels" in names:
                labels = checked_labels(_array(path, f"{prefix}labels"), path, len(classes))
            waves = partial(_waves, path, f"{prefix}waves") if f"{prefix}waves" in names else None
            stored[split] = Stored(partial(_images, path, f"{prefix}images"), labels, path, waves)
    return Splits(stored, classes, _hertz(path, stored, names))


def class_names(path: Path) -> tuple[str, ...]:
    """Returns the names in the array `classes`. Raises BadInput."""
    return tuple(str(name) for name in _array(path, "classes", _NAMES).ravel())


def _is_npz(path: Path) -> bool:
    return path.suffix.lower() == ".npz" and path.is_file()


def _names(path: Path) -> list[str]:
    with bad_input_as(path, "save it again with numpy.savez"), _archive(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


@contextmanager
def _archive(path: Path) -> Iterator[ZipFile]:
    with _Bounded(FileIO(path)) as file, ZipFile(file) as archive:
        yield archive


class _Bounded(BufferedReader):
    """A file that refuses large reads. Without it, opening an archive would read even a list of a million members."""

    def read(self, size: int | None = -1, /) -> bytes:
        read = super().read(_AT_ONCE + 1 if size is None or size < 0 else min(size, _AT_ONCE + 1))
        if len(read) > _AT_ONCE:
            raise ValueError("its list of members is longer than that of a few arrays")
        return read


def _array(path: Path, name: str, limit: int = sys.maxsize) -> np.ndarray:
    """Returns an array of at most `limit` bytes. Raises BadInput."""
    size = path.stat().st_size
    with bad_input_as(f"array {name} in {path}", "save it again with numpy.savez"), _archive(path) as archive:
        member = archive.getinfo(f"{name}.npy")
        if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):  # NumPy writes these; others unpack without bound
            raise BadInput(f"array {name} in {path} is packed in another way than NumPy's; save it with numpy.savez.")
        with archive.open(member) as file:
            return read_array(file, min(member.file_size, size * DEFLATED, limit), path)


def _images(path: Path, name: str) -> np.ndarray:
    return as_images(_array(path, name), f"{path}, array {name}")


def _waves(path: Path, name: str) -> np.ndarray:
    return as_waves(_array(path, name), f"{path}, array {name}")


def _hertz(path: Path, stored: Mapping[str, Stored], names: Sequence[str]) -> int:
    """Returns the samples of the sounds in a second, or 0 if there are no sounds. Raises BadInput if the file does not
    state them, or if only one split has sounds."""
    with_sound = [split for split, of_split in stored.items() if of_split.waves is not None]
    if not with_sound:
        return 0
    if len(with_sound) < len(stored):
        raise BadInput(f"{path}: only the {with_sound[0]} split has waves; give both splits sounds, or none.")
    hertz = _array(path, "rate", 1 << 10).ravel() if "rate" in names else np.empty(0)
    low, high = _RATES
    if hertz.size != 1 or hertz.dtype.kind not in "iu" or not low <= hertz[0] <= high:
        raise BadInput(
            f"{path}: has waves, and does not say how many samples they have in a second; add the array rate, a whole "
            f"number from {low:,} to {high:,}, such as rate=16000."
        )
    return int(hertz[0])
