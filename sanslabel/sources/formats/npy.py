"""NumPy's .npy: one array of images, without labels."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from sanslabel.errors import bad_input_as
from sanslabel.sources.arrays import Arrays, Splits, Stored, arrays_of_images
from sanslabel.sources.numpy_arrays import as_images, read_array
from sanslabel.sources.source import Wanted


def splits(data: str | Path) -> tuple[str, ...] | None:
    """Returns the one split of an .npy file; None for anything else."""
    path = Path(data)
    return ("train",) if path.suffix.lower() == ".npy" and path.is_file() else None


def open_source(data: str | Path, split: str, wanted: Wanted) -> Arrays | None:
    """Returns the images of an .npy file; None for anything else."""
    if splits(data) is None:
        return None
    path = Path(data)
    stored = Splits({"train": Stored(partial(_images, path), None, path)})
    return arrays_of_images(path.stem, stored, split, wanted)


def _images(path: Path) -> np.ndarray:
    with bad_input_as(path, "save it again with numpy.save"), path.open("rb") as file:
        array = read_array(file, path.stat().st_size, path)
    return as_images(array, str(path))
