"""Folders of sound files, with or without a sub-folder for each class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sanslabel.sources.folders.split_folders import split_folders
from sanslabel.sources.source import Source, Wanted
from sanslabel.sources.stores.listing import listing


def splits(data: str | Path) -> tuple[str, ...] | None:
    """Returns the splits that a folder of sounds is divided into; None for anything else."""
    root = Path(data)
    return tuple(split_folders(root)) if root.is_dir() and listing(root).kind == "sounds" else None


def open_source(data: str | Path, split: str, wanted: Wanted) -> Source | None:
    """Returns the windows of the sounds of a split, or of "all"; None for anything but a folder of sounds."""
    root = Path(data)
    if not root.is_dir() or (files := listing(root)).kind != "sounds":
        return None
    files = files.without(root, wanted.labels and wanted.labels.file)
    from sanslabel.sources.sounds.sounds import sounds_from
    from sanslabel.sources.stores.files import Files

    prefixes = {key: (prefix,) for key, prefix in split_folders(root).items()}
    source = sounds_from(Files(root, list(files.sounds)), root.resolve().name, split, prefixes, wanted)
    return replace(source, remarks=(*files.of_sounds.remarks, *source.remarks))
