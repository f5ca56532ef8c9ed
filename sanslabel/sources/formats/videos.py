"""Videos: a file, or a folder of videos with or without a sub-folder for each class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from sanslabel.errors import BadInput
from sanslabel.sources.folders.split_folders import split_folders
from sanslabel.sources.source import Source, Wanted
from sanslabel.sources.stores.listing import VIDEOS, Listing, listing


def splits(data: str | Path) -> tuple[str, ...] | None:
    """Returns the splits of a video, or of a folder of videos; None for anything else."""
    path = Path(data)
    if _is_video(path):
        return ("train",)
    return tuple(split_folders(path)) if path.is_dir() and listing(path).kind == "videos" else None


def open_source(data: str | Path, split: str, wanted: Wanted) -> Source | None:
    """Returns the frames of the videos of a split, or of "all"; None for anything but videos."""
    return None if splits(data) is None else open_several((data,), split, wanted)


def open_several(places: Sequence[str | Path], split: str, wanted: Wanted) -> Source:
    """Returns the frames of several videos, and folders of them, as one source. Raises BadInput if one place contains
    another."""
    from sanslabel.sources.stores.files import Files
    from sanslabel.sources.videos.videos import frames_from

    paths = sorted(Path(place).resolve() for place in places)
    for path, following in pairwise(paths):
        if following.is_relative_to(path):
            raise BadInput(f"--data: {following} lies in {path}; name only one of them.")
    folders = [path if path.is_dir() else path.parent for path in paths]
    common, remarks, names = Path(os.path.commonpath(folders)), list[str](), list[str]()
    prefixes: dict[str, tuple[str, ...]] = {"train": (), "test": ()}
    for path in paths:
        place = path.relative_to(common).as_posix()
        if not path.is_dir():
            names.append(place)
            prefixes["train"] += (place,)
            continue
        above = "" if place == "." else f"{place}/"
        files: Listing = listing(path).of_videos
        names += [f"{above}{name}" for name in files.names]
        remarks += files.remarks
        for key, prefix in split_folders(path).items():
            prefixes[key] += (f"{above}{prefix}",)
    present = {key: of_split for key, of_split in prefixes.items() if of_split}
    name = "+".join(path.name if path.is_dir() else path.stem for path in paths)
    source = frames_from(Files(common, names), name, split, present, wanted)
    return replace(source, remarks=(*remarks, *source.remarks))


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEOS and path.is_file()
