"""Where samples come from: sets that ship with the package, arrays in files, and folders of images."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sanslabel.errors import BadInput, suggestion
from sanslabel.sources.arrays import Arrays, Splits, arrays_of_images
from sanslabel.sources.cifar import cifar
from sanslabel.sources.idx import idx
from sanslabel.sources.loader import batches, ordered
from sanslabel.sources.npz import npy, npz
from sanslabel.sources.pairs import Pairs
from sanslabel.sources.source import Loaded, Request, Source
from sanslabel.sources.toy import TOYS, toy

__all__ = [
    "NAMES",
    "TOYS",
    "Arrays",
    "Loaded",
    "Pairs",
    "Request",
    "Source",
    "batches",
    "open_source",
    "ordered",
    "splits",
]

Split = Literal["train", "test", "all"]

_DATA = Path(__file__).with_name("data")
_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package puts its files
NAMES = ("fashion", "digits", "fashion-mnist", *TOYS)
"""sets that `data` can be by name; a folder that is called so is meant by ./fashion"""


def open_source(
    data: str | Path, split: Split = "train", *, image_size: int | None = None, channels: int | None = None
) -> Source:
    """The samples of a split of `data`, a name in NAMES or a path.

    A path is a folder with IDX files (MNIST's names, gzipped or not), with CIFAR's binary files or with images, or an
    .npy or .npz file. "train" is everything where there is no test split. `image_size` is the side that a folder's
    images are trained at and bounds what is decoded; `channels` converts a folder's images, and must fit arrays.

    Raises BadInput for what is missing, empty, damaged or of the wrong kind.
    """
    name, path, stored = _opened(data)
    if split != "all" and split not in _splits(path, stored):
        raise BadInput(f"{data} has no {split} split; it has: {', '.join(_splits(path, stored))}.")
    if not stored.stored:
        from sanslabel.sources.folder import folder  # with Pillow, which arrays do not need

        return folder(path, split, image_size, channels)
    source = arrays_of_images(name, stored, split)
    if channels not in (None, source.channels):
        raise BadInput(f"{data}: {channels} channels are asked for, its images have {source.channels}; convert them.")
    return source


def splits(data: str | Path) -> tuple[str, ...]:
    """Which of "train" and "test" there are. Reads no images; raises BadInput as `open_source` does."""
    _, path, stored = _opened(data)
    return _splits(path, stored)


def _opened(data: str | Path) -> tuple[str, Path, Splits]:
    """Name, place, and what files of arrays are there or what is made."""
    if isinstance(data, str) and data in TOYS:
        return data, Path(data), toy(data)
    name, path = _found(data)
    return name, path, _stored(name, path)


def _found(data: str | Path) -> tuple[str, Path]:
    """Name and place."""
    if data in ("fashion", "digits"):
        return str(data), _DATA / f"{data}.npz"
    if data == "fashion-mnist":
        if not _FASHION_MNIST.is_dir():
            raise BadInput(
                f"fashion-mnist: {_FASHION_MNIST} does not exist; run apt-get install dataset-fashion-mnist, or give a"
                " folder with the four IDX files."
            )
        return str(data), _FASHION_MNIST
    path = Path(data)
    if path.is_dir():
        return path.resolve().name, path
    if path.is_file() and path.suffix.lower() in (".npy", ".npz"):
        return path.stem, path
    if path.exists():
        raise BadInput(f"{path} is neither a folder nor an .npy or .npz file; give one of these.")
    raise BadInput(f"{data}: no such file or folder, and no set of that name; {suggestion(str(data), list(NAMES))}")


def _stored(name: str, path: Path) -> Splits:
    """What files of arrays are there; no parts for a folder of images."""
    if path.suffix.lower() == ".npy" and path.is_file():
        return npy(path)
    if path.suffix.lower() == ".npz" and path.is_file():
        return npz(path)
    stored = idx(path)
    if name == "fashion-mnist":
        return Splits(stored.stored, npz(_DATA / "fashion.npz").classes)
    return stored if stored.stored else cifar(path)


def _splits(path: Path, stored: Splits) -> tuple[str, ...]:
    if stored.stored:
        return tuple(stored.stored)
    from sanslabel.sources.folder import splits as folder_splits

    return folder_splits(path)
