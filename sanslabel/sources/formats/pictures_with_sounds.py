"""Folders in which a picture and a sound share the stem of their names, as cat.png and cat.ogg do.

For methods of pictures alone, such a folder is one of pictures.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sanslabel.sources.folders.split_folders import split_folders
from sanslabel.sources.source import Source, Wanted
from sanslabel.sources.stores.listing import Listing, listing

SIGNALS = ("image", "audio")
"""the format is for methods that read both"""


def splits(data: str | Path) -> tuple[str, ...] | None:
    """Returns the splits that a folder of pictures with sounds is divided into; None for anything else."""
    root = Path(data)
    return tuple(split_folders(root)) if root.is_dir() and listing(root).kind == "both" else None


def open_source(data: str | Path, split: str, wanted: Wanted) -> Source | None:
    """Returns the pairs of a split, or of "all"; None for anything but a folder of pictures and sounds."""
    root = Path(data)
    if not root.is_dir() or (files := listing(root)).kind != "both":
        return None
    files = files.without(root, wanted.labels and wanted.labels.file)
    from sanslabel.sources.sounds.with_sounds import pictures_with_sounds
    from sanslabel.sources.stores.files import Files

    prefixes = {key: (prefix,) for key, prefix in split_folders(root).items()}
    stores = Files(root, files.names), Files(root, list(files.sounds))
    source = pictures_with_sounds(*stores, files, root.resolve().name, split, prefixes, wanted)
    return replace(source, remarks=(*Listing(files.names, files.without_sounds).remarks, *source.remarks))
