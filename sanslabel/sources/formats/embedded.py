"""Sets by name: two that ship with the package, and Fashion-MNIST where Debian's package puts it."""

from __future__ import annotations

from pathlib import Path

from sanslabel.errors import BadInput
from sanslabel.sources.arrays import Arrays, Splits, arrays_of_images
from sanslabel.sources.formats import idx, npz
from sanslabel.sources.source import Wanted

NAMES = ("fashion", "digits", "fashion-mnist")
_DATA = Path(__file__).parents[1] / "data"
_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


def splits(data: str | Path) -> tuple[str, ...] | None:
    """Returns the splits of a set of that name; None for anything else."""
    return tuple(_stored(data).stored) if data in NAMES else None


def open_source(data: str | Path, split: str, wanted: Wanted) -> Arrays | None:
    """Returns the images of a split, or of "all"; None if there is no set of that name."""
    return arrays_of_images(str(data), _stored(data), split, wanted) if data in NAMES else None


def _stored(name: str | Path) -> Splits:
    if name != "fashion-mnist":
        return npz.stored_in(_DATA / f"{name}.npz")
    if not _FASHION_MNIST.is_dir():
        raise BadInput(
            f"fashion-mnist: {_FASHION_MNIST} does not exist; run apt-get install dataset-fashion-mnist, or give a"
            " folder with the four IDX files."
        )
    return Splits(idx.stored_in(_FASHION_MNIST).stored, npz.class_names(_DATA / "fashion.npz"))
