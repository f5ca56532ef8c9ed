"""Folders of image files, with or without a sub-folder for each class."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from sanslabel.errors import BadInput
from sanslabel.sources.folders.split_folders import split_folders
from sanslabel.sources.source import Source, Wanted

FALLBACK = True
"""a folder that no other format reads counts as one of images"""


def splits(data: str | Path) -> tuple[str, ...] | None:
    """Returns the splits that a folder is divided into; None for anything but a folder.

    They are "train" and "test" if the folder has train/ and test/, or train/ and val/ but no test/; otherwise only
    "train".
    """
    return tuple(split_folders(Path(data))) if Path(data).is_dir() else None


def open_source(data: str | Path, split: str, wanted: Wanted) -> Source | None:
    """Returns the images of a split, or of "all"; None for anything but a folder."""
    root = Path(data)
    if not root.is_dir():
        return None
    from sanslabel.sources.pictures.images import images_from  # with Pillow, which arrays do not need
    from sanslabel.sources.stores.files import Files
    from sanslabel.sources.stores.listing import listing

    files = listing(root).without(root, wanted.labels and wanted.labels.file)
    prefixes = {key: (prefix,) for key, prefix in split_folders(root).items()}
    source = images_from(Files(root, files.names), root.resolve().name, split, prefixes, wanted)
    return replace(source, remarks=(*files.remarks, *source.remarks))


def open_several(folders: Sequence[str | Path], split: str, wanted: Wanted) -> Source:
    """Returns the images of several folders as one source; a folder without a test split belongs to the training
    split.

    A name is the path from the folder that contains all of them. So it is unique, and stays the same if they move
    together. Raises BadInput if one folder contains another, or holds no images.
    """
    from sanslabel.sources.pictures.images import images_from
    from sanslabel.sources.stores.files import Files
    from sanslabel.sources.stores.listing import Listing, listing

    roots = sorted(Path(folder).resolve() for folder in folders)
    for root, following in pairwise(roots):
        if following.is_relative_to(root):
            raise BadInput(f"--data: {following} lies in {root}; name only one of them.")
    common = Path(os.path.commonpath(roots))
    names, left_out = list[str](), Counter[str]()
    prefixes: dict[str, tuple[str, ...]] = {"train": (), "test": ()}
    for root in roots:
        files = listing(root).without(root, wanted.labels and wanted.labels.file)
        place = root.relative_to(common).as_posix()
        if not files.names:
            raise BadInput(f"{root} holds no images; leave it out of --data.")
        names += [f"{place}/{name}" for name in files.names]
        left_out.update(files.left_out)
        for key, prefix in split_folders(root).items():
            prefixes[key] += (f"{place}/{prefix}",)
    present = {key: of_split for key, of_split in prefixes.items() if of_split}
    source = images_from(Files(common, names), "+".join(root.name for root in roots), split, present, wanted)
    return replace(source, remarks=(*Listing(names, dict(left_out)).remarks, *source.remarks))
