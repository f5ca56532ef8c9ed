"""Folders of image files, with or without a sub-folder for each class."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from sanslabel.sources.source import Source, Wanted

FALLBACK = True
"""a folder that no other format reads counts as one of images"""


def splits(data: str | Path) -> tuple[str, ...] | None:
    """Returns the splits that a folder is divided into; None for anything but a folder.

    They are "train" and "test" if the folder has train/ and test/, or train/ and val/ but no test/; otherwise only
    "train".
    """
    return tuple(_prefixes(Path(data))) if Path(data).is_dir() else None


def open_source(data: str | Path, split: str, wanted: Wanted) -> Source | None:
    """Returns the images of a split, or of "all"; None for anything but a folder."""
    root = Path(data)
    if not root.is_dir():
        return None
    from sanslabel.sources.images import images_from  # with Pillow, which arrays do not need
    from sanslabel.sources.stores.files import Files
    from sanslabel.sources.stores.listing import listing

    files = listing(root)
    source = images_from(Files(root, files.names), root.resolve().name, split, _prefixes(root), wanted)
    return replace(source, remarks=(*files.remarks, *source.remarks))


def _prefixes(root: Path) -> dict[str, str]:
    """Returns the sub-folder of each split with its slash; "" for the training split of a folder that is not
    divided."""
    test = next((name for name in ("test", "val") if (root / name).is_dir()), "")
    if not test or not (root / "train").is_dir():
        return {"train": ""}
    present = os.listdir(root)

    def spelled(name: str) -> str:
        """Returns the folder's own spelling, such as "Train", on a system that ignores case."""
        return name if name in present else next((other for other in present if other.casefold() == name), name)

    return {"train": f"{spelled('train')}/", "test": f"{spelled(test)}/"}
