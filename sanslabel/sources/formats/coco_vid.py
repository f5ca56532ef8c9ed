"""Tracked objects in COCO's json with videos: COCO-VID (MMTracking's), and TAO (Dave et al. 2020).

The file has `videos` (id, name), `images` (id, video_id, frame_id or frame_index, file_name), `annotations` (image_id,
bbox, instance_id or track_id, category_id) and `categories` (id, name). A bbox is left, top, width and height in
pixels, from 0. Frames count from 0, at the video's `fps` if there is one.

The path is the file, or a folder with such files in it or in its sub-folder `annotations`. Their names contain train,
and val or test. Frames are looked for in the folder and its sub-folders.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from sanslabel.errors import BadInput, bad_input_as
from sanslabel.memory_limits import main_memory
from sanslabel.sources.remarks import printable
from sanslabel.sources.source import Source, Wanted
from sanslabel.sources.stores.store import Unreadable, open_regular
from sanslabel.sources.tracks.sighting import Sighting
from sanslabel.sources.videos.frame_folders import FPS

MARK = b'"video_id"'
"""a key that COCO's json has if its images are frames"""
TAKEN = 20
"""times its size in memory that json takes at most while it is parsed"""
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""words in names of files, and their splits"""
SEARCHED = 200
"""sub-folders that frames are looked for in, at most"""


def splits(data: str | Path) -> tuple[str, ...] | None:
    """Returns the splits of a file, or of the files in a folder; None if there is no json of tracks."""
    return tuple(_files(Path(data))) or None


def open_source(data: str | Path, split: str, wanted: Wanted) -> Source | None:
    """Returns the pictures of tracked objects in a split, or in "all"; None if there is no json of tracks. Raises
    BadInput for files that are damaged, and for boxes that are doubled or of a missing frame."""
    files = _files(Path(data))
    if not files:
        return None
    from sanslabel.sources.tracks.tracks import crops_of, tracks_of  # with Pillow, which arrays do not need

    path = Path(data)
    root = path if path.is_dir() else path.parent.parent if path.parent.name == "annotations" else path.parent
    contents = {key: _content(file) for key, file in files.items()}
    used = {key: _categories(contents[key], file) for key, file in files.items()}
    sightings, sizes, remarks = list[Sighting](), dict[str, tuple[int, int]](), dict[str, None]()
    for key, file in files.items():
        if split in (key, "all"):
            frames = _frames(contents[key], file, root, wanted.fps or FPS)
            sizes |= {frame.path: frame.size for frame in frames.values() if frame.size}
            boxes, ignored = _sightings(contents[key], file, frames, used[key])
            sightings += boxes
            _check_presence(boxes, file, root)
            if any(frame.assumed for frame in frames.values()):
                remarks[f"{wanted.fps or FPS:g} frames a second are assumed, as the videos state no fps."] = None
            if ignored:
                remarks[f"Boxes that are marked as crowds, or to be ignored: {ignored:,}."] = None
    classes = sorted({name for of_file in used.values() for name in of_file.values()})
    tracks = tracks_of(sightings, root, sizes, tuple(remarks))
    return crops_of(tracks, root, root.resolve().name, split, wanted, classes)


class _Frame(NamedTuple):
    """A picture that the file announces."""

    path: str
    """relative to the data"""
    video: str
    number: int
    seconds: float
    size: tuple[int, int] | None
    """width and height, if they are stated"""
    assumed: bool
    """True if no rate of frames is stated"""


def _files(path: Path) -> dict[str, Path]:
    """Returns the file of each split; none if there is no json of tracks. Raises BadInput if it is open which file a
    split has."""
    if path.is_file():
        return {"train": path} if path.suffix.lower() == ".json" and _is_of_videos(path) else {}
    by_split: dict[str, list[Path]] = {}
    for folder in (path, path / "annotations"):
        with suppress(OSError):
            for name in sorted(os.listdir(folder)):
                if name.lower().endswith(".json") and not name.startswith(".") and _is_of_videos(folder / name):
                    words = re.split(r"[^a-z]+", name[:-5].lower())
                    key = next((SPLITS[word] for word in words if word in SPLITS), "")
                    by_split.setdefault(key, []).append(folder / name)
    if len(by_split) == 1 and "" in by_split:
        by_split = {"train": by_split[""]}
    by_split.pop("", None)
    for files in by_split.values():
        if len(files) > 1:
            raise BadInput(f"{path}: {files[0].name} and {files[1].name} are of one split; name one file with --data.")
    test = by_split.get("test") or by_split.get("val")
    return {key: files[0] for key, files in (("train", by_split.get("train")), ("test", test)) if files}


def _is_of_videos(path: Path) -> bool:
    """Returns True if the file has the key `video_id`, which is looked for without parsing."""
    with suppress(OSError, Unreadable), open_regular(path) as file:
        end = b""
        while content := file.read(1 << 20):
            if MARK in end + content:
                return True
            end = content[-len(MARK) :]
    return False


def _content(path: Path) -> dict[str, Any]:
    """Returns the parsed file, with its lists. Raises BadInput."""
    with bad_input_as(path, "fetch it again"):
        size = path.stat().st_size
        if size * TAKEN > main_memory():
            raise BadInput(f"{path} has {size:,} bytes, which this machine has no memory to parse; divide it.")
        with open_regular(path) as file:
            content = json.loads(file.read(size))
        for key in ("videos", "images", "annotations"):
            if not isinstance(content, dict) or not _are_objects(content.get(key)):
                raise BadInput(f"{path} has no list of {key}; give COCO's json with videos.")
        if not _are_objects(content.setdefault("categories", [])):
            raise BadInput(f"{path}: categories is no list of objects; correct it.")
        return content


def _are_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _categories(content: dict[str, Any], path: Path) -> dict[int | str, str]:
    """Returns the name of each category that a box has."""
    with bad_input_as(path, "correct its categories"):
        names = {category["id"]: str(category["name"]) for category in content["categories"]}
        used = {annotation.get("category_id") for annotation in content["annotations"]}
        return {key: name for key, name in names.items() if key in used}


def _frames(content: dict[str, Any], path: Path, root: Path, fps: float) -> dict[Any, _Frame]:
    """Returns the pictures by their id; `fps` is the rate of videos that state none. Raises BadInput for an entry that
    lacks a key or leads out of the folder."""
    rates = {video.get("id"): video.get("fps", video.get("frame_rate")) for video in content["videos"]}
    frames, folder = dict[Any, _Frame](), None
    for entry in content["images"]:
        where = f"{path}: image {_short(entry.get('id'))}"
        with bad_input_as(where, "correct the entry"):
            name = entry["file_name"]
            number, video = entry.get("frame_id", entry.get("frame_index")), entry["video_id"]
            folders = PurePosixPath(name).parts
            if not name or name.startswith("/") or ".." in folders or "\0" in name:
                raise BadInput(f"{where}: file_name {_short(name)} leads out of the folder; correct it.")
            if not isinstance(number, int) or not 0 <= number < 2**31:
                raise BadInput(f"{where}: has no frame_id or frame_index from 0 on; correct the entry.")
            if video not in rates:
                raise BadInput(f"{where}: there is no video {_short(video)}; correct the entry.")
            if entry["id"] in frames:
                raise BadInput(f"{where}: occurs twice; give each image an id of its own.")
            stated = rates[video]
            if stated is not None and not (isinstance(stated, int | float) and 0 < stated <= 1000):
                raise BadInput(f"{path}: video {_short(video)}: fps {_short(stated)} is no rate of frames; correct it.")
            size = (entry.get("width"), entry.get("height"))
            known = all(isinstance(side, int) and 0 < side < 2**31 for side in size)
            folder = _folder_of_frames(root, path, name) if folder is None else folder
            frames[entry["id"]] = _Frame(
                f"{folder}{name}", str(video), number, number / (stated or fps), size if known else None, stated is None
            )
    return frames


def _folder_of_frames(root: Path, path: Path, name: str) -> str:
    """Returns the folder in which a frame lies, relative to the root, with a slash at the end or "". Raises BadInput if
    there is none."""
    pending, searched = [""], 0
    while pending and searched < SEARCHED:
        folder, searched = pending.pop(0), searched + 1
        if (root / folder / name).is_file():
            return folder
        if folder.count("/") < 2:
            with suppress(OSError), os.scandir(root / folder) as entries:
                pending += sorted(
                    f"{folder}{entry.name}/" for entry in entries if entry.is_dir() and not entry.name.startswith(".")
                )
    raise BadInput(f"{path}: its first frame, {_short(name)}, is not below {root}; put the frames there.")


def _sightings(
    content: dict[str, Any], path: Path, frames: Mapping[Any, _Frame], names: Mapping[Any, str]
) -> tuple[list[Sighting], int]:
    """Returns the boxes, and the number of those that are to be ignored. Raises BadInput."""
    sightings, ignored = list[Sighting](), 0
    of_object: dict[tuple[str, str, int], object] = {}
    for entry in content["annotations"]:
        where = f"{path}: annotation {_short(entry.get('id'))}"
        with bad_input_as(where, "correct the entry"):
            if entry.get("iscrowd") or entry.get("ignore"):
                ignored += 1
                continue
            if entry["image_id"] not in frames:
                raise BadInput(f"{where}: there is no image {_short(entry['image_id'])}; remove the box, or add it.")
            frame, object_id = frames[entry["image_id"]], entry.get("instance_id", entry.get("track_id"))
            if not isinstance(object_id, int | str):
                raise BadInput(f"{where}: has no instance_id or track_id; give tracks, not single detections.")
            left, top, width, height = map(float, entry["bbox"])
            if not all(map(isfinite, (left, top, width, height))) or width < 0 or height < 0:
                raise BadInput(f"{where}: bbox {_short(entry['bbox'])} is no left, top, width and height; correct it.")
            key = (frame.video, str(object_id), frame.number)
            if key in of_object:
                raise BadInput(
                    f"{where}: frame {frame.number} of video {_short(frame.video)} has a second box of object"
                    f" {_short(object_id)}, after annotation {_short(of_object[key])}; keep one of them."
                )
            of_object[key] = entry.get("id")
            corners, label = (left, top, left + width, top + height), names.get(entry.get("category_id"), "")
            sightings.append(Sighting(frame.path, frame.video, str(object_id), frame.seconds, corners, label))
    return sightings, ignored


def _check_presence(sightings: list[Sighting], path: Path, root: Path) -> None:
    """Raises BadInput if a box has no picture."""
    for frame in sorted({sighting.frame for sighting in sightings}):
        if not (root / frame).is_file():
            raise BadInput(f"{path}: there are boxes for {frame}, which is missing; add the picture, or remove them.")


def _short(value: object) -> str:
    """Returns a value of the file for an error, in one line of at most 80 characters."""
    text = printable(str(value))
    return text if len(text) <= 80 else f"{text[:77]}..."
