"""The folders that divide data into a training and a test split."""

from __future__ import annotations

import os
from pathlib import Path


def split_folders(root: Path) -> dict[str, str]:
    """Returns the sub-folder of each split with its slash; "" for the training split of a folder that is not
    divided.

    The splits are "train" and "test" if the folder has train/ and test/, or train/ and val/ but no test/; otherwise
    only "train".
    """
    test = next((name for name in ("test", "val") if (root / name).is_dir()), "")
    if not test or not (root / "train").is_dir():
        return {"train": ""}
    present = os.listdir(root)

    def spelled(name: str) -> str:
        """Returns the folder's own spelling, such as "Train", on a system that ignores case."""
        return name if name in present else next((other for other in present if other.casefold() == name), name)

    return {"train": f"{spelled('train')}/", "test": f"{spelled(test)}/"}
