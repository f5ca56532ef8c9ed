"""The file of Fashion-MNIST that a machine without network needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.gpu.needs import SET
from sanslabel.errors import BadInput
from sanslabel.sources import Request, open_source


def installed() -> str | None:
    """Returns the name of Fashion-MNIST if it is installed here, else None."""
    try:
        open_source("fashion-mnist", "test")
    except BadInput:
        return None
    return "fashion-mnist"


def bring(folder: Path) -> Path:
    """Writes all of Fashion-MNIST into a file of the folder, 31 MB, and returns the file. Raises BadInput if it is not
    installed here."""
    import torch

    arrays = {}
    for prefix, split in (("", "train"), ("test_", "test")):
        source = open_source("fashion-mnist", split)
        pixels = source.load(Request(torch.arange(len(source)))).images.pixels
        arrays |= {f"{prefix}images": pixels[:, 0].numpy(), f"{prefix}labels": source.labels.numpy()}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / SET, **arrays, classes=np.array(source.classes))
    return folder / SET
