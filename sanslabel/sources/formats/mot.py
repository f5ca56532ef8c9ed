"""MOTChallenge's folders of tracked objects, as CVAT and datumaro write them, too (Dendorfer et al. 2021).

A sequence is a folder with `gt/gt.txt` and pictures in `img1`, named by their number. A line of gt.txt is
`frame,id,left,top,width,height,considered,class,visibility`. Frames, ids and coordinates count from 1: the first pixel
begins at left 1. The last three columns may be absent, or be other ones; boxes that are not considered are left out,
and so are boxes that are hidden to more than 70 %. `seqinfo.ini` may state the rate of frames and the folder of the
pictures, `gt/labels.txt` the names of the classes.

The path is a sequence, a folder of sequences, or a folder with train/ and test/ (or val/) of sequences.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from configparser import ConfigParser
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from sanslabel.errors import BadInput, bad_input_as
from sanslabel.sources.folders.split_folders import split_folders
from sanslabel.sources.remarks import first_names
from sanslabel.sources.source import Source, Wanted
from sanslabel.sources.stores.listing import SUFFIXES
from sanslabel.sources.stores.store import open_regular
from sanslabel.sources.tracks.sighting import Sighting
from sanslabel.sources.videos.frame_folders import FPS

VISIBLE = 0.3
"""share of an object that is visible at least"""
LARGEST = 1 << 26
"""most bytes of a file of boxes, about a million boxes"""
LARGEST_NOTE = 1 << 16
"""most bytes of seqinfo.ini and labels.txt"""


class _Box(NamedTuple):
    """A line of gt.txt."""

    line: int
    frame: int
    id: int
    corners: tuple[float, float, float, float]
    """left, top, right and bottom in pixels, 0 at the outer edge of the first pixel"""
    label: str


class _Sequence(NamedTuple):
    """The boxes of one sequence."""

    folder: str
    """relative to the data, with a slash at the end, or "" """
    pictures: str
    """the folder of its pictures, relative to the data, with a slash at the end"""
    fps: float | None
    """frames a second, None if it is not stated"""
    boxes: list[_Box]
    ignored: int
    """boxes that are marked as such, or hidden"""


def splits(data: str | Path) -> tuple[str, ...] | None:
    """Returns the splits of a folder of sequences; None for anything else."""
    return tuple(_folders(Path(data))) or None if Path(data).is_dir() else None


def open_source(data: str | Path, split: str, wanted: Wanted) -> Source | None:
    """Returns the pictures of tracked objects in a split, or in "all"; None for anything but a folder of sequences.
    Raises BadInput for boxes that are damaged, doubled, or of a missing frame."""
    root = Path(data)
    folders = _folders(root) if root.is_dir() else {}
    if not folders:
        return None
    from sanslabel.sources.tracks.tracks import crops_of, tracks_of  # with Pillow, which arrays do not need

    read = {key: [_sequence(root, folder) for folder in of_split] for key, of_split in folders.items()}
    sequences = [sequence for key, of_split in read.items() if split in (key, "all") for sequence in of_split]
    classes = sorted({box.label for of_split in read.values() for one in of_split for box in one.boxes} - {""})
    remarks = []
    if without := [sequence.folder or "." for sequence in sequences if sequence.fps is None]:
        remarks.append(
            f"{wanted.fps or FPS:g} frames a second are assumed, since no seqinfo.ini states a rate:"
            f" {first_names(without)}."
        )
    if ignored := sum(sequence.ignored for sequence in sequences):
        remarks.append(f"Boxes that are hidden, or marked to be ignored: {ignored:,}.")
    sightings = [box for one in sequences for box in _sightings(root, one, one.fps or wanted.fps or FPS)]
    return crops_of(tracks_of(sightings, root, {}, tuple(remarks)), root, root.resolve().name, split, wanted, classes)


def _folders(root: Path) -> dict[str, list[str]]:
    """Returns the folders of sequences in each split, with a slash at the end; "" for the data itself."""
    divided = split_folders(root)
    if "test" not in divided and (root / "train").is_dir():  # alone, if a challenge keeps the boxes of its tests
        divided = {"train": "train/"}
    sequences = {key: _sequences(root, folder) for key, folder in divided.items()}
    return {key: folders for key, folders in sequences.items() if folders}


def _sequences(root: Path, folder: str) -> list[str]:
    """Returns the sequences of a folder, itself or its sub-folders, in order."""
    if (root / folder / "gt" / "gt.txt").is_file():
        return [folder]
    try:
        below = sorted(f"{folder}{name}/" for name in os.listdir(root / folder) if not name.startswith("."))
    except OSError as error:
        raise BadInput(f"{root / folder} cannot be listed ({error.strerror}); make it readable.") from error
    return [name for name in below if (root / name / "gt" / "gt.txt").is_file()]


def _sequence(root: Path, folder: str) -> _Sequence:
    """Returns the boxes of a sequence. Raises BadInput."""
    note = ConfigParser(interpolation=None)
    path = root / folder / "seqinfo.ini"
    if path.is_file():
        with bad_input_as(path, "fetch it again, or remove it"):
            note.read_string(_text(path, LARGEST_NOTE))
    stated = dict(note["Sequence"]) if note.has_section("Sequence") else {}
    pictures, fps = stated.get("imdir", "img1"), None
    if os.path.isabs(pictures) or ".." in pictures.split("/") or "\0" in pictures:
        raise BadInput(f"{path}: imDir {pictures!r} leads out of the folder; keep the pictures below it.")
    if "framerate" in stated:
        fps = _number(stated["framerate"])
        if fps is None or not 0 < fps <= 1000:
            raise BadInput(f"{path}: frameRate is no number of frames a second from above 0 to 1,000; correct it.")
    names = {}
    if (path := root / folder / "gt" / "labels.txt").is_file():
        with bad_input_as(path, "fetch it again, or remove it"):
            names = dict(enumerate(filter(None, map(str.strip, _text(path, LARGEST_NOTE).splitlines())), 1))
    path = root / folder / "gt" / "gt.txt"
    with bad_input_as(path, "fetch it again"):
        lines = _text(path, LARGEST).splitlines()
    boxes, ignored = [], 0
    for box, considered in _boxes(lines, path, names):
        boxes += [box] if considered else []
        ignored += not considered
    return _Sequence(folder, f"{folder}{pictures}/", fps, boxes, ignored)


def _boxes(lines: list[str], path: Path, names: dict[int, str]) -> Iterator[tuple[_Box, bool]]:
    """Yields each box of a file, and True if it is considered and visible. Raises BadInput."""
    line_of: dict[tuple[int, int], int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        box, considered = _box(line, number, f"{path}, line {number}", names)
        if (box.frame, box.id) in line_of:
            raise BadInput(
                f"{path}, line {number}: frame {box.frame} has a second box of id {box.id}, after line"
                f" {line_of[box.frame, box.id]}; keep one of them."
            )
        line_of[box.frame, box.id] = number
        yield box, considered


def _box(line: str, number: int, where: str, names: dict[int, str]) -> tuple[_Box, bool]:
    """Returns the box of a line, and True if it is considered and visible. Raises BadInput."""
    values = list(map(_number, line.split(",")))
    if len(values) < 6 or None in values:
        raise BadInput(f"{where}: is no list of frame, id, left, top, width and height; correct it.")
    frame, object_id, left, top, width, height, *others = (value for value in values if value is not None)
    if frame % 1 or object_id % 1 or not 1 <= frame < 2**31 or abs(object_id) >= 2**53:
        raise BadInput(f"{where}: frames count from 1, and ids are whole numbers; correct it.")
    if object_id < 0:
        raise BadInput(f"{where}: id {object_id:.0f} names no object; give tracks, not single detections.")
    if width < 0 or height < 0:
        raise BadInput(f"{where}: a box of {width:g} x {height:g} pixels; correct it.")
    stated = len(others) == 3  # of 10 columns, the last three are coordinates in space
    label = names.get(int(others[1]), f"{others[1]:.0f}") if stated and others[1] > 0 else ""
    considered = (not others or others[0] != 0) and (not stated or others[2] >= VISIBLE)
    left, top = left - 1, top - 1  # coordinates count from 1
    return _Box(number, int(frame), int(object_id), (left, top, left + width, top + height), label), considered


def _sightings(root: Path, sequence: _Sequence, fps: float) -> Iterator[Sighting]:
    """Yields the boxes of a sequence with their pictures. Raises BadInput for a box of a missing frame."""
    pictures = _pictures(root, sequence.pictures)
    for box in sequence.boxes:
        if box.frame not in pictures:
            raise BadInput(
                f"{root / sequence.folder / 'gt' / 'gt.txt'}, line {box.line}: frame {box.frame} has a box and no"
                f" picture in {sequence.pictures}; add the picture, or remove the box."
            )
        seconds = (box.frame - 1) / fps
        yield Sighting(pictures[box.frame], sequence.folder, str(box.id), seconds, box.corners, box.label)


def _pictures(root: Path, folder: str) -> dict[int, str]:
    """Returns the pictures of a folder by their numbers. Raises BadInput if there is no such folder."""
    try:
        files = sorted(os.listdir(root / folder))
    except OSError as error:
        raise BadInput(f"{root / folder} cannot be listed ({error.strerror}); put the frames there.") from error
    numbered = ((os.path.splitext(name), name) for name in files)
    return {
        int(stem): f"{folder}{name}"
        for (stem, suffix), name in numbered
        if suffix.lower() in SUFFIXES and stem.isascii() and stem.isdigit() and len(stem) < 19
    }


def _text(path: Path, most: int) -> str:
    """Returns the text of a file. Raises BadInput if it has more bytes than this."""
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise BadInput(f"{path} has more than {most:,} bytes; divide it into several sequences.")
    return content.decode("utf-8-sig")


def _number(word: str) -> float | None:
    """Returns the finite number that a word stands for, or None."""
    try:
        value = float(word)
    except ValueError:
        return None
    return value if isfinite(value) else None
