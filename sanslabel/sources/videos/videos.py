"""Frames of videos as a source of pictures with shots and times.

Every video is decoded once, from its first frame to its last. The frames that are kept lie in a file in the user's
cache folder, with their shorter side reduced. A second file has their times and shots.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from math import floor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from sanslabel.errors import BadInput
from sanslabel.inputs import DECODE_FACTOR, ImageSpec
from sanslabel.sources.folders.copies import equal_files
from sanslabel.sources.folders.labeled_files import labeled_files
from sanslabel.sources.pictures.cache import Space, decoded_once, fits, room_for_decoded
from sanslabel.sources.pictures.channels import conversion_advice
from sanslabel.sources.pictures.images import ImagesFrom
from sanslabel.sources.pictures.picture_file import TABLE, UNREADABLE, PictureFile, PictureWriter
from sanslabel.sources.pictures.survey import default_side
from sanslabel.sources.progress import shown_progress
from sanslabel.sources.remarks import first_names
from sanslabel.sources.sounds.with_sounds import with_sound_tracks
from sanslabel.sources.source import Source, Wanted, tolerated
from sanslabel.sources.stores.files import Files
from sanslabel.sources.stores.frames import Frames
from sanslabel.sources.stores.listing import cache_folder, packed_strings, remember_arrays, unpacked_strings
from sanslabel.sources.stores.store import Unreadable
from sanslabel.sources.videos.cuts import difference, shots, still_shots
from sanslabel.sources.videos.video_file import EXACT, FRAMES, Damage, Frame, frames, has_color, video_file
from sanslabel.wording import counted

KINDS = "MP4, MOV, MKV, WebM, AVI, MPEG or others"
FORMAT = 1
"""the format of the file of times, raised whenever frames, shots or pixels change"""
SIDES = (256, 146, 110, 73, 37)
"""shorter sides in pixels at which frames are kept if no size is requested: the largest that fits into the cache"""
PIECE = 16
"""frames that are written at a time"""
LOOKED = 0.5
"""seconds between the thumbnails that show whether a shot moves"""
COLORED = 16
"""most videos that are looked at for color"""


class Facts(NamedTuple):
    """Facts about videos, before all of their frames are pictures."""

    size: np.ndarray
    """(V, 2) int64, width and height of upright frames; 0 for videos that cannot be read"""
    frames: np.ndarray
    """(V,) int64, number of frames that each video states"""
    seconds: np.ndarray
    """(V,) float64, length that each video states"""
    guessed_colors: np.ndarray
    """(V,) bool, True for videos that do not state the matrix of their colors"""
    color: bool
    """True if the videos have color"""
    reasons: list[str]
    """the reason for each video that cannot be read; "" for others"""


class Times(NamedTuple):
    """The frames that are kept of videos."""

    video: np.ndarray
    """(N,) int64, the video of each frame"""
    time: np.ndarray
    """(N,) float64, seconds from the start of the video"""
    shot: np.ndarray
    """(N,) int64, the shot of each frame, counted over all videos"""
    still: np.ndarray
    """(S,) int64, the shots that do not move"""
    lost: np.ndarray
    """(V,) int64, pieces of each video that could not be decoded"""
    facts: Facts


def frames_from(store: Files, name: str, split: str, prefixes: Mapping[str, tuple[str, ...]], wanted: Wanted) -> Source:
    """Returns the frames of the videos of one split, or of "all", with the sound around them if a method reads sound.

    prefixes: the folders of each split, with their slashes, and the videos that lie in none. Sub-folders are classes,
    see `labeled_files`. A shot is a group: it ends at a hard cut. Raises BadInput if there are no videos, if too many
    cannot be read, if there is only one frame, or if the frames do not fit into the cache.
    """
    equal = equal_files(store, lambda row: _is_readable(store.location / store.names[row]))
    files = labeled_files(store, split, prefixes, equal, f"videos ({KINDS})", wanted.labels, kind="video")
    videos = store.subset(files.index)
    times, pictures, side = _kept(videos, name, wanted)
    if len(times.time) < 2:
        place = videos.location / videos.names[0] if len(videos.names) == 1 else name
        raise BadInput(f"{place}: has {counted(len(times.time), 'frame')}, and training needs two; give longer videos.")
    names = [f"{videos.names[v]}#t={t:.3f}" for v, t in zip(times.video.tolist(), times.time.tolist(), strict=True)]
    size = wanted.image_size or default_side(_shorter(times.facts))
    source = ImagesFrom(
        name=name,
        split=split,
        store=Frames(videos, names, times.video, times.time, np.arange(len(names)), pictures, side),
        labels=files.labels[torch.from_numpy(times.video)],
        classes=files.classes,
        inputs={"image": ImageSpec(channels=pictures.channels, height=size, width=size)},
        noun="frame",
        group=torch.from_numpy(times.shot),
        recording=torch.from_numpy(times.video),
        time=torch.from_numpy(times.time),
        remarks=(*files.remarks, *_remarks(videos, names, times, pictures, side, wanted)),
        no_labels=files.no_labels,
        labels_sha256="" if wanted.labels is None else wanted.labels.sha256,
        skip_unreadable=wanted.skip_unreadable,
    )
    return with_sound_tracks(source, videos, times.video, times.time) if "audio" in wanted.signals else source


def _kept(videos: Files, name: str, wanted: Wanted) -> tuple[Times, PictureFile, int]:
    """Returns the frames that are kept, the file of their pixels, and the side to which they are reduced. Both are made
    now or by an earlier run."""
    key = _key(videos, wanted.fps)
    memory = cache_folder() / "times" / f"{key}.npz"
    known = _remembered(memory)
    facts = _facts(videos) if known is None else known.facts
    _check_readable(videos, facts, wanted)
    channels = wanted.channels or (3 if facts.color else 1)
    if channels not in (1, 3):
        raise BadInput(conversion_advice(name, channels, 3))
    count = _estimated(facts, wanted.fps) if known is None else len(known.time)
    side = wanted.frame_side or _side(wanted, facts, count, channels)
    room, made = _bytes(facts, count, side, channels), list[Times]()

    def fill(descriptor: int, space: Space) -> None:
        _check_room(name, room, side)
        writer = PictureWriter(descriptor, count, channels)
        pieces = _Pieces(writer, space, name, side)
        with shown_progress(name, count) as show:
            times = _times(videos, facts, wanted.fps, lambda frame: show(min(count, pieces.add(frame))))
        pieces.write()
        _remember(times, memory)
        writer.finish(len(times.time))
        made[:] = [times]

    pictures = decoded_once(f"{key}-{side}-{channels}", name, room, fill)
    times = made[0] if made else known or _remembered(memory)
    return times or _times(videos, facts, wanted.fps, lambda _: None), pictures, side


def _times(videos: Files, facts: Facts, fps: float | None, keep: Callable[[Frame], object]) -> Times:
    """Decodes all videos, calls `keep` with each frame that is kept, and returns their times."""
    video, time, shot, still, lost, begun = [], [], [], [], np.zeros(len(videos.names), np.int64), 0
    for number, name in enumerate(videos.names):
        damage = Damage()
        if facts.reasons[number]:
            continue
        kept, differences, looks, thumbnails = list[int](), list[float](), list[int](), list[np.ndarray]()
        back, last, due, look, before = list[int](), None, -np.inf, -np.inf, -np.inf
        with closing(frames(videos.location / name, damage=damage)) as every_frame, suppress(Unreadable):
            for place, frame in enumerate(every_frame):
                thumbnail = frame.thumbnail()
                differences.append(0.0 if last is None else difference(thumbnail, last))
                last = thumbnail
                if frame.time < before:  # files that were joined start anew
                    back.append(place)
                    due = look = -np.inf
                before = frame.time
                if frame.time >= look:
                    looks.append(place)
                    thumbnails.append(thumbnail)
                    look = frame.time + LOOKED
                if frame.time >= due - EXACT:
                    kept.append(place)
                    time.append(frame.time)
                    keep(frame)
                    due = -np.inf if fps is None else (floor((frame.time + EXACT) * fps) + 1) / fps
                if place + 1 == FRAMES:
                    break
        number_of = shots(np.array(differences))
        for place in back:
            number_of[place:] += 1
        if kept:
            shot_of_look = number_of[looks]
            still += (begun + still_shots(shot_of_look, np.stack(thumbnails))).tolist()
            shot += (begun + number_of[kept]).tolist()
            video += [number] * len(kept)
            begun += int(number_of[-1]) + 1
        lost[number] = damage.lost
    return Times(
        video=np.array(video, np.int64),
        time=np.array(time, np.float64),
        shot=np.array(shot, np.int64),
        still=np.array(still, np.int64),
        lost=lost,
        facts=facts,
    )


class _Pieces:
    """A writer of frames, some at a time. Raises BadInput if they take more room than there is."""

    def __init__(self, writer: PictureWriter, space: Space, name: str, side: int) -> None:
        self.writer, self.space, self.name, self.side = writer, space, name, side
        self.pictures: list[np.ndarray | str] = []
        self.written = 0

    def add(self, frame: Frame) -> int:
        """Takes a frame, and returns the number of frames so far."""
        try:
            if frame.damaged:
                raise Unreadable("parts of the frame could not be decoded")
            self.pictures.append(frame.pixels(self.writer.channels, self.side))
        except Exception as error:  # decoders raise whatever a malformed file leads them into
            self.pictures.append(str(error) or type(error).__name__)
        if len(self.pictures) == PIECE:
            self.write()
        return self.written + len(self.pictures)

    def write(self) -> None:
        """Writes the frames that wait."""
        table, flat, end, reasons = np.zeros(len(self.pictures), TABLE), [np.empty(0, np.uint8)], 0, dict[int, str]()
        for place, picture in enumerate(self.pictures):
            if isinstance(picture, str):
                table[place]["offset"] = UNREADABLE
                reasons[self.written + place] = picture
                continue
            flat.append(picture.ravel())
            table[place] = (end, *picture.shape[1:], zlib.crc32(flat[-1].data))
            end += picture.size
        if not fits(end, *self.space(self.writer.size)):
            raise _too_large(self.name, self.writer.size + end, self.side)
        index = list(range(self.written, self.written + len(self.pictures)))
        self.writer.append(index, np.concatenate(flat).data, table, reasons)
        self.written += len(self.pictures)
        self.pictures = []


def _facts(videos: Files) -> Facts:
    """Returns the facts that videos state, and whether any of a few has color."""
    size, count, seconds, guessed, reasons = [], [], [], [], []
    color, looked = False, 0
    for name in videos.names:
        path = videos.location / name
        try:
            stated = video_file(path)
            if not color and looked < COLORED:
                looked += 1
                color = has_color(path)
        except Unreadable as error:
            stated = None
            reasons.append(str(error))
        else:
            reasons.append("")
        size.append((0, 0) if stated is None else stated.upright)
        count.append(0 if stated is None else stated.frames)
        seconds.append(0.0 if stated is None else stated.seconds)
        guessed.append(stated is not None and stated.guessed_colors)
    return Facts(
        size=np.array(size, np.int64).reshape(-1, 2),
        frames=np.array(count, np.int64),
        seconds=np.array(seconds, np.float64),
        guessed_colors=np.array(guessed, bool),
        color=color,
        reasons=reasons,
    )


def _is_readable(path: Path) -> bool:
    try:
        video_file(path)
    except Unreadable:
        return False
    return True


def _check_readable(videos: Files, facts: Facts, wanted: Wanted) -> None:
    """Raises BadInput if more videos cannot be read than data may have."""
    bad = [row for row, reason in enumerate(facts.reasons) if reason]
    if not bad:
        return
    first = f"{videos.location / videos.names[bad[0]]}: {facts.reasons[bad[0]]}"
    if len(bad) == len(videos.names):
        more = f"; none of {counted(len(bad), 'video')} can be read" if len(bad) > 1 else ""
        raise BadInput(f"{first}{more}; give other videos.")
    if len(bad) > tolerated(len(videos.names)) and not wanted.skip_unreadable:
        raise BadInput(
            f"{first}; {len(bad):,} of {counted(len(videos.names), 'video')} cannot be read; add --skip-unreadable to"
            " go on without them, or remove or mend them."
        )


def _estimated(facts: Facts, fps: float | None) -> int:
    """Returns the number of frames that are kept, as far as the videos state their length."""
    count = facts.frames if fps is None else np.minimum(facts.frames, np.ceil(facts.seconds * fps) + 1)
    return int(count.sum())


def _shorter(facts: Facts) -> list[int]:
    """Returns the shorter side of each video that can be read."""
    return [int(side) for side in facts.size.min(1) if side]


def _bytes(facts: Facts, count: int, side: int, channels: int) -> int:
    """Returns the bytes that so many frames take at this side."""
    readable = facts.size[facts.size.min(1) > 0]
    scale = np.minimum(1.0, side / readable.min(1))
    return round(float((readable.prod(1) * scale**2).mean()) * channels * count)


def _side(wanted: Wanted, facts: Facts, count: int, channels: int) -> int:
    """Returns the side to which frames are reduced: as large as the requested size needs, else the largest of SIDES at
    which they fit into the cache."""
    if wanted.image_size is not None:
        return round(wanted.image_size * DECODE_FACTOR)
    room = room_for_decoded()
    return next((side for side in SIDES if _bytes(facts, count, side, channels) <= room), SIDES[-1])


def _check_room(name: str, expected: int, side: int) -> None:
    if expected > room_for_decoded():
        raise _too_large(name, expected, side)


def _too_large(name: str, size: int, side: int) -> BadInput:
    return BadInput(
        f"{name}: its frames take about {size / 1e9:.1f} GB at {side} pixels, more than half of the free space of"
        f" {cache_folder()}; lower --fps or --image-size, or make room."
    )


def _remarks(
    videos: Files, names: list[str], times: Times, pictures: PictureFile, side: int, wanted: Wanted
) -> Iterable[str]:
    """Yields what a person should know about the frames."""
    facts = times.facts
    at_most = f", at most {wanted.fps:g} a second" if wanted.fps else ""
    readable = [name for name, reason in zip(videos.names, facts.reasons, strict=True) if not reason]
    yield (
        f"{counted(len(names), 'frame')}{at_most}, of {counted(len(readable), 'video')} in"
        f" {counted(len(np.unique(times.shot)), 'shot')}; a shot ends at a hard cut."
    )
    if any(shorter > side for shorter in _shorter(facts)):
        yield f"Frames are decoded once, and kept at {side} pixels on the shorter side ({_readable(pictures.size)})."
    if bad := [f"{n} ({r})" for n, r in zip(videos.names, facts.reasons, strict=True) if r]:
        yield f"Videos that cannot be read: {first_names(bad)}."
    if damaged := [videos.names[row] for row in np.flatnonzero(times.lost)]:
        yield f"Parts that cannot be decoded are left out: {int(times.lost.sum()):,}, in {first_names(damaged)}."
    if len(times.still):
        first = [names[int(np.flatnonzero(times.shot == shot)[0])] for shot in times.still[:4] if shot in times.shot]
        yield f"Shots that do not move, so that near frames are copies: {len(times.still):,} ({first_names(first)})."
    if guessed := [videos.names[row] for row in np.flatnonzero(facts.guessed_colors)]:
        yield (
            "Videos that do not state how colors are stored, taken as BT.709 from 720 lines on and as BT.601 below:"
            f" {first_names(guessed)}."
        )


def _readable(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(1, round(size / 1e6)):,} MB"


def _key(videos: Files, fps: float | None) -> str:
    """Returns a name that is a hash of everything that decides which frames are kept, and their pixels."""
    try:
        import av
    except (ImportError, OSError):
        return ""  # opening the first video raises the error
    made_by = (FORMAT, av.__version__, fps)
    content = repr((os.fspath(videos.location.resolve()), videos.names, made_by)).encode(errors="surrogateescape")
    return hashlib.sha256(content + videos.status().tobytes()).hexdigest()


def _remembered(memory: Path) -> Times | None:
    """Returns the times that an earlier run has written."""
    try:
        with np.load(memory, allow_pickle=False) as content:
            facts = Facts(
                size=content["size"],
                frames=content["frames"],
                seconds=content["seconds"],
                guessed_colors=content["guessed_colors"],
                color=bool(content["color"]),
                reasons=unpacked_strings(content["reasons"]),
            )
            fields = {name: content[name] for name in ("video", "time", "shot", "still", "lost")}
            return Times(**fields, facts=facts)
    except Exception:  # missing or damaged in any way: decode again
        return None


def _remember(times: Times, memory: Path) -> None:
    facts = times.facts
    arrays = {name: value for name, value in times._asdict().items() if name != "facts"}
    arrays |= {name: np.asarray(value) for name, value in facts._asdict().items() if name != "reasons"}
    remember_arrays(memory, **arrays, reasons=packed_strings(facts.reasons))
