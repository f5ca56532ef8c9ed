"""Tracks of moving objects in a video or in frames, written in MOTChallenge's format."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from sanslabel.device import chosen_device
from sanslabel.errors import BadInput, DiskError
from sanslabel.use.clips import Clip, clips_of
from sanslabel.use.contact_sheet import write_contact_sheet
from sanslabel.use.tracker import Track, tracks_in

SIDE = 480
"""length to which the shorter side of frames is reduced while objects are followed"""


class Tracked(NamedTuple):
    """A clip whose objects were followed."""

    folder: Path
    tracks: int
    boxes: int
    unreadable: int
    """frames that could not be read; they have no boxes"""


def track(path: str | Path, out: str | Path, *, fps: float | None = None, device: str | None = None) -> list[Tracked]:
    """Follows the objects that move in a video or a folder of frames, and writes their boxes.

    `out` gets a folder for each clip in MOTChallenge's format, with the frames in `img1`, the boxes in `gt/gt.txt`, and
    `contact.png`, which shows the longest tracks. `sanslabel.train(…, data=out)` reads it. Clips without a track are
    left out.

    fps: frames a second of folders, by default 25. Raises BadInput for data that are no clips, if nothing moves in
    them, or if `out` holds something already; nothing is written then.
    """
    out, computed_on = Path(out), chosen_device(device)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"--out {out}: must be a new or an empty folder, since tracks of two runs would mix.")
    clips = clips_of(Path(path), fps)
    unfinished = out.absolute().parent / f".{out.absolute().name}.part"
    shutil.rmtree(unfinished, ignore_errors=True)
    written = []
    try:
        unfinished.mkdir(parents=True)
        for clip in clips:
            frames = _Gray(clip)
            tracks = tracks_in(frames, computed_on)
            if tracks:
                tracked = _write(clip, tracks, frames, unfinished / clip.name)
                written.append(tracked._replace(folder=out / clip.name))
        if not written:
            raise BadInput(f"{path}: no moving object could be followed; give a clip in which something moves.")
        if out.exists():
            out.rmdir()
        os.replace(unfinished, out)
    except OSError as error:
        raise DiskError(
            f"{out}: cannot be written ({error.strerror or error}); free space, or name another."
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return written


class _Gray:
    """The gray frames of a clip, read once; an unreadable one is replaced by the one before."""

    def __init__(self, clip: Clip) -> None:
        self.clip, self.unreadable = clip, list[int]()
        self.shape = (1, 1)

    def __iter__(self) -> Iterator[Tensor]:
        last = None
        for number, pixels in enumerate(self.clip.gray(SIDE)):
            if pixels is None:
                self.unreadable.append(number)
            else:
                last = torch.tensor(pixels)
                self.shape = pixels.shape
            if last is None:
                raise BadInput(f"{self.clip.name}: its first frame cannot be read; remove or mend it.")
            yield last


def _write(clip: Clip, tracks: list[Track], frames: _Gray, folder: Path) -> Tracked:
    """Writes the frames, the boxes and the contact sheet of a clip."""
    (folder / "img1").mkdir(parents=True)
    (folder / "gt").mkdir()
    clip.write(folder / "img1")
    width, height = clip.size
    scale = torch.tensor([width / frames.shape[1], height / frames.shape[0]] * 2)
    boxes = [
        (track.begin + place + 1, number, (corners * scale).tolist(), score)
        for number, track in enumerate(tracks, 1)
        for place, (corners, score) in enumerate(zip(track.corners, track.scores, strict=True))
        if track.begin + place not in frames.unreadable
    ]
    lines = [
        # coordinates count from 1, and 10 columns say that the last three are no class
        f"{frame},{number},{left + 1:.2f},{top + 1:.2f},{right - left:.2f},{bottom - top:.2f},{score:.3f},-1,-1,-1\n"
        for frame, number, (left, top, right, bottom), score in sorted(boxes)
    ]
    (folder / "gt" / "gt.txt").write_text("".join(lines))
    (folder / "seqinfo.ini").write_text(
        f"[Sequence]\nname={clip.name}\nimDir=img1\nframeRate={clip.fps:g}\nimWidth={width}\nimHeight={height}\n"
    )
    write_contact_sheet(boxes, folder / "img1", folder / "contact.png")
    return Tracked(folder, len(tracks), len(boxes), len(frames.unreadable))
