"""Tracks of objects: boxes that files state for frames, and the pictures of objects that remain of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from sanslabel.device import cores
from sanslabel.errors import BadInput
from sanslabel.inputs import ImageSpec
from sanslabel.sources.pictures.images import ImagesFrom
from sanslabel.sources.pictures.stored_picture import PIXELS, open_image, size
from sanslabel.sources.pictures.survey import default_side, survey
from sanslabel.sources.progress import shown_progress
from sanslabel.sources.source import Request, Wanted
from sanslabel.sources.stores.files import Files
from sanslabel.sources.stores.listing import cache_folder, remember_arrays
from sanslabel.sources.stores.regions import Regions
from sanslabel.sources.stores.store import Store, Unreadable
from sanslabel.sources.tracks.crops import PLAIN, REACH, Crops, regions_around, square_boxes
from sanslabel.sources.tracks.sighting import Sighting
from sanslabel.sources.workers import load_each

SMALLEST = 24
"""pixels that the longer side of a box has at least"""
STILL = 0.85
"""overlap (intersection over union) with its first box that each box of a static track has at least"""
ALIKE = 2 / 255
"""mean difference of two thumbnails, of values in [0, 1], below which crops count as the same"""
THUMBNAIL = 16
"""side of the thumbnails that are compared, in pixels"""
PIECE = 16
"""frames that a process decodes at a time"""
ALONE = 64 << 20
"""pixels of all frames up to which one process has decoded them before worker processes would have started"""
FORMAT = 1


class Tracks(NamedTuple):
    """Boxes of objects in the frames of clips. M boxes, sorted by frame."""

    frames: list[str]
    """path of each frame, relative to the folder of the data"""
    sizes: np.ndarray
    """(F, 2) int64, width and height of each frame in pixels"""
    frame: np.ndarray
    """(M,) int64, the frame of each box"""
    track: np.ndarray
    """(M,) int64, the object of each box; objects of different clips differ"""
    ids: list[str]
    """the object of each box as its file names it"""
    time: np.ndarray
    """(M,) float64, seconds since the start of the clip"""
    corners: np.ndarray
    """(M, 4) float64, left, top, right and bottom in pixels, 0 at the outer edge of the first pixel"""
    classes: list[str]
    """the class of each box, "" where there is none"""
    remarks: tuple[str, ...] = ()
    """sentences on boxes that were left out while the file was read"""

    def chosen(self, index: np.ndarray) -> Tracks:
        """Returns the boxes of these rows, in that order."""
        ids, classes = ([values[row] for row in index.tolist()] for values in (self.ids, self.classes))
        frame, track, time, corners = (values[index] for values in (self.frame, self.track, self.time, self.corners))
        return self._replace(frame=frame, track=track, ids=ids, time=time, corners=corners, classes=classes)


def tracks_of(
    sightings: Sequence[Sighting], root: Path, sizes: Mapping[str, tuple[int, int]], remarks: tuple[str, ...]
) -> Tracks:
    """Returns the boxes as arrays, sorted by frame and then by object.

    root: the folder that paths of frames begin in; sizes: width and height of frames, as far as they are known. The
    frames of a clip have one size, which its first readable frame states.
    """
    sightings = sorted(sightings, key=lambda sighting: (sighting.frame, sighting.clip, sighting.id))
    frames = sorted({sighting.frame for sighting in sightings})
    place = {frame: row for row, frame in enumerate(frames)}
    clip_of = {sighting.frame: sighting.clip for sighting in sightings}
    of_clip: dict[str, tuple[int, int]] = {}
    for frame, clip in clip_of.items():
        if frame not in sizes and clip not in of_clip:
            with suppress(Unreadable):
                of_clip[clip] = size(root / frame)
    tracks = {key: row for row, key in enumerate(sorted({(one.clip, one.id) for one in sightings}))}
    return Tracks(
        frames,
        np.array([sizes.get(frame) or of_clip.get(clip_of[frame], (0, 0)) for frame in frames], np.int64).reshape(
            -1, 2
        ),
        np.array([place[one.frame] for one in sightings], np.int64),
        np.array([tracks[one.clip, one.id] for one in sightings], np.int64),
        [one.id for one in sightings],
        np.array([one.seconds for one in sightings], np.float64),
        np.array([one.corners for one in sightings], np.float64).reshape(-1, 4),
        [one.label for one in sightings],
        remarks,
    )


def crops_of(tracks: Tracks, root: Path, name: str, split: str, wanted: Wanted, classes: Sequence[str]) -> Crops:
    """Returns the pictures of tracked objects. The group of a picture is its track.

    root: the folder that paths of frames begin in; classes: the names of the classes in all splits. Raises BadInput if
    no track with two boxes is left, see `selected`, or if no frame can be read.
    """
    tracks = selected(tracks, Files(root, tracks.frames))
    if not len(tracks.frame):
        raise BadInput(f"{root}: no track has two boxes that differ; give tracks of objects that move.")
    boxes, sizes = square_boxes(tracks.corners), tracks.sizes[tracks.frame]
    corners = regions_around(boxes, sizes)
    store = Regions(Files(root, tracks.frames), _names(tracks), tracks.frame, corners)
    side = wanted.image_size or default_side((PLAIN * (boxes[:, 2] - boxes[:, 0])).tolist())
    surveyed = survey(store, wanted._replace(image_size=side))
    position = {name: label for label, name in enumerate(classes)}
    labels = [position.get(of_box, -1) if len(classes) > 1 else -1 for of_box in tracks.classes]
    pictures = ImagesFrom(
        name=name,
        split=split,
        store=store,
        labels=torch.tensor(labels),
        classes=tuple(classes) if max(labels) >= 0 else (),
        inputs={"image": ImageSpec(channels=surveyed.channels, height=side, width=side, levels=surveyed.levels)},
        noun="crop of a track",
        group=torch.from_numpy(tracks.track),
        time=torch.from_numpy(tracks.time),
        remarks=(*tracks.remarks, *surveyed.remarks),
        skip_unreadable=wanted.skip_unreadable,
        margin=REACH / PLAIN,
    )
    place, length = np.tile(corners[:, :2], 2), np.tile(corners[:, 2:] - corners[:, :2], 2)
    return Crops(base=pictures, boxes=torch.from_numpy(((boxes - place) / length).astype(np.float32)))


def selected(tracks: Tracks, frames: Store) -> Tracks:
    """Returns the boxes that pairs can be learned from, with a remark for each reason to leave boxes out.

    Boxes are clipped to their pictures. Those outside of their pictures are left out, and so are small ones and those
    that do not move. Then crops are left out that are nearly the one before in their track. Last come tracks of which
    only one box remains.
    """
    total, remarks = len(tracks.frame), list(tracks.remarks)
    limits = np.tile(tracks.sizes[tracks.frame], 2)  # width, height, width, height
    clipped = np.clip(tracks.corners, 0, limits)
    sides = clipped[:, 2:] - clipped[:, :2]
    empty, reaches_out = (np.asarray(flags.any(1)) for flags in (sides < 1, clipped != tracks.corners))
    if reaches_out.any():
        remarks.append(f"Boxes that reach out of their picture are clipped: {_share(reaches_out, total)}.")
    tracks = tracks._replace(corners=clipped)

    def leave_out(tracks: Tracks, flags: np.ndarray, which: str) -> Tracks:
        remarks.append(f"{which} are left out: {_share(flags, total)}.")
        return tracks.chosen(np.flatnonzero(~flags))

    if empty.any():
        tracks, sides = leave_out(tracks, empty, "Boxes outside of their picture"), sides[~empty]
    small = np.asarray(sides.max(1, initial=0) < SMALLEST)
    if small.any():
        tracks = leave_out(tracks, small, f"Boxes of less than {SMALLEST} pixels")
    tracks = leave_out(tracks, static_boxes(tracks.track, tracks.corners), "Boxes that do not move")
    tracks = leave_out(tracks, near_copies(tracks, frames), "Crops that hardly differ from the one before")
    _, inverse, counts = np.unique(tracks.track, return_inverse=True, return_counts=True)
    alone = np.asarray(counts[inverse] < 2)
    if alone.any():
        tracks = leave_out(tracks, alone, "Boxes without another one of their track")
    return tracks._replace(remarks=tuple(remarks))


def static_boxes(track: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Returns True for each box of a track that stays in one place, (M,) bool.

    The boxes of such a track all overlap with its first one by `STILL` or more. A track of one box does not count.
    """
    _, first, inverse, counts = np.unique(track, return_index=True, return_inverse=True, return_counts=True)
    overlap = intersection_over_union(corners, corners[first[inverse]])
    least = np.ones(len(first))
    np.minimum.at(least, inverse, overlap)
    return (least[inverse] >= STILL) & (counts[inverse] > 1)


def intersection_over_union(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the overlap of each box of `a` with that of `b`: corners (N, 4) each -> (N,) in [0, 1]."""
    shared = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None).prod(1)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(1) for boxes in (a, b)]
    return shared / np.maximum(areas[0] + areas[1] - shared, 1e-12)


def near_copies(tracks: Tracks, frames: Store) -> np.ndarray:
    """Returns True for each crop that hardly differs from the last crop of its track that is kept, (M,) bool.

    Gray thumbnails are compared. All frames are decoded for this; the result is remembered between runs, and made anew
    if a frame has changed. Crops of unreadable frames are kept, and count as unreadable when they are loaded.
    """
    digest = hashlib.sha256(f"{FORMAT} {ALIKE} {THUMBNAIL}".encode())
    for values in (tracks.frame, tracks.track, tracks.corners, frames.first_status):
        digest.update(np.ascontiguousarray(values).data)
    place = os.fsencode(frames.location.absolute()) + b"\0" + os.fsencode("\0".join(frames.names))
    memory = cache_folder() / "tracks" / f"{hashlib.sha256(place).hexdigest()}.npz"
    if (remembered := _remembered(memory, digest.hexdigest(), len(tracks.frame))) is not None:
        return remembered
    alike, last = np.zeros(len(tracks.frame), bool), dict[int, np.ndarray]()
    order = np.argsort(tracks.time, kind="stable")
    order = order[np.argsort(tracks.frame[order], kind="stable")]
    frame_of_box, first = np.unique(tracks.frame[order], return_index=True)
    boxes_of_frame = np.split(order, first[1:]) if len(order) else []
    corners = dict(zip(frame_of_box.tolist(), (tracks.corners[boxes] for boxes in boxes_of_frame), strict=True))
    pieces = torch.from_numpy(frame_of_box).split(PIECE)
    processes = cores() if int(tracks.sizes[frame_of_box].prod(1).sum()) > ALONE else 0
    loaded = load_each(_Thumbnails(frames, corners), map(Request, pieces), processes)
    with closing(loaded), shown_progress(frames.location.name, len(frame_of_box)) as show:
        for count, (boxes, thumbnails) in enumerate(zip(boxes_of_frame, chain.from_iterable(loaded), strict=True), 1):
            for box, thumbnail in zip(boxes.tolist(), thumbnails, strict=False):  # an unreadable frame has none
                track = int(tracks.track[box])
                alike[box] = track in last and np.abs(thumbnail - last[track]).mean() < ALIKE
                if not alike[box]:
                    last[track] = thumbnail
            show(count)
    remember_arrays(memory, key=np.array(digest.hexdigest()), alike=alike)
    return alike


@dataclass(frozen=True)
class _Thumbnails:
    """A reader of the thumbnails of boxes, for worker processes."""

    frames: Store
    corners: Mapping[int, np.ndarray]
    """the boxes of each frame, (M, 4)"""

    @property
    def name(self) -> str:
        return self.frames.location.name

    def id(self, index: int) -> str:
        return self.frames.names[index]

    def load(self, request: Request) -> list[list[np.ndarray]]:
        """Returns the thumbnails of each frame, none of an unreadable one."""
        thumbnails: list[list[np.ndarray]] = []
        for row in request.index.tolist():
            try:
                thumbnails.append(_thumbnails(self.frames, row, self.corners[row]))
            except Unreadable:
                thumbnails.append([])
        return thumbnails


def _thumbnails(frames: Store, row: int, corners: np.ndarray) -> list[np.ndarray]:
    """Returns gray thumbnails of the boxes of a frame, (16, 16) in [0, 1] each. Raises Unreadable."""
    with open_image(partial(frames.open, row)) as (_, image):
        if not isinstance(image, Image.Image) or image.width * image.height > PIXELS:
            raise Unreadable("too large")
        scale = min(1.0, THUMBNAIL / (corners[:, 2:] - corners[:, :2]).max(1).min())
        full = np.array(image.size * 2)
        image.draft("L", (round(image.width * scale), round(image.height * scale)))
        image.load()
        gray, reduction = image.convert("L"), np.array(image.size * 2) / full
        boxes = np.minimum(corners * reduction, np.array(gray.size * 2))
        sizes = [(THUMBNAIL, THUMBNAIL)] * len(boxes)
        thumbnails = [
            gray.resize(size, Image.Resampling.BOX, box=tuple(box))
            for size, box in zip(sizes, boxes.tolist(), strict=True)
        ]
    return [np.asarray(thumbnail, np.float32) / 255 for thumbnail in thumbnails]


def _remembered(memory: Path, key: str, boxes: int) -> np.ndarray | None:
    """Returns the result of an earlier run, if no frame and no box has changed since."""
    try:
        with memory.open("rb") as file, np.load(file, allow_pickle=False) as content:
            alike = content["alike"]
            return alike if str(content["key"]) == key and alike.shape == (boxes,) and alike.dtype == bool else None
    except Exception:  # missing or damaged in any way: compare again
        return None


def _names(tracks: Tracks) -> list[str]:
    """Returns a name for each box: its frame, with the rectangle as in media fragments, and its object."""
    names = []
    for frame, object_id, corners in zip(tracks.frame.tolist(), tracks.ids, tracks.corners.tolist(), strict=True):
        left, top, right, bottom = corners
        box = ",".join(f"{round(value, 2):.10g}" for value in (left, top, right - left, bottom - top))
        names.append(f"{tracks.frames[frame]}#xywh={box}&id={object_id}")
    return names


def _share(flags: np.ndarray, total: int) -> str:
    """Returns the share of boxes in words."""
    count = int(flags.sum())
    return f"{100 * count / max(1, total):.1f} % ({count:,} of {total:,})"
