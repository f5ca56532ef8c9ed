"""Clips of a path: a video, or a folder of frames, or a folder of such folders."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from sanslabel.errors import BadInput
from sanslabel.sources.pictures.picture import picture
from sanslabel.sources.pictures.stored_picture import size
from sanslabel.sources.stores.listing import SUFFIXES, VIDEOS
from sanslabel.sources.stores.store import Unreadable, open_regular
from sanslabel.sources.videos.frame_folders import FPS, natural

QUALITY = 95
"""quality of the JPEG files that frames of videos are written as"""


class Clip(Protocol):
    """Frames in their order."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> tuple[int, int]:
        """Returns width and height of the frames in pixels."""
        ...

    @property
    def fps(self) -> float: ...

    def gray(self, side: int) -> Iterator[np.ndarray | None]:
        """Yields each frame in gray with its shorter side reduced to `side`, (H, W) uint8; None for an unreadable
        one."""
        ...

    def write(self, folder: Path) -> None:
        """Writes every readable frame under its number, from 1 on, with six digits."""
        ...


@dataclass(frozen=True)
class FolderClip:
    """The pictures of a folder, in the natural order of their names."""

    folder: Path
    files: list[str]
    fps: float

    @property
    def name(self) -> str:
        return Path(os.path.abspath(self.folder)).name

    @property
    def size(self) -> tuple[int, int]:
        """Returns the size of the first readable frame. Raises BadInput if there is none."""
        for file in self.files:
            with suppress(Unreadable):
                return size(self.folder / file)
        raise BadInput(f"{self.folder}: none of its {len(self.files)} pictures can be read; check the folder.")

    def gray(self, side: int) -> Iterator[np.ndarray | None]:
        """Yields each frame, see `Clip`. Raises BadInput for frames of different sizes."""
        shape = None
        for file in self.files:
            try:
                pixels = picture(partial(open_regular, self.folder / file), 1, side)[0]
            except Unreadable:
                yield None
                continue
            shape = shape or pixels.shape
            if pixels.shape != shape:
                raise BadInput(
                    f"{self.folder / file}: has another size than the frames before; give one clip a folder."
                )
            yield pixels

    def write(self, folder: Path) -> None:
        """Links each frame to its number, or copies it if the disk is another one."""
        for number, file in enumerate(self.files, 1):
            target = folder / f"{number:06d}{os.path.splitext(file)[1].lower()}"
            try:
                os.link(os.path.realpath(self.folder / file), target)
            except OSError:
                shutil.copyfile(self.folder / file, target)


@dataclass(frozen=True)
class VideoClip:
    """The frames of a video file."""

    path: Path
    size: tuple[int, int]
    fps: float

    @property
    def name(self) -> str:
        return self.path.stem

    def gray(self, side: int) -> Iterator[np.ndarray | None]:
        from sanslabel.sources.videos.video_file import frames

        for frame in frames(self.path):
            yield frame.pixels(1, side)[0]

    def write(self, folder: Path) -> None:
        """Writes each frame as a JPEG file."""
        from sanslabel.sources.videos.video_file import frames

        for number, frame in enumerate(frames(self.path), 1):
            pixels = frame.pixels(3, min(self.size)).transpose(1, 2, 0)
            Image.fromarray(pixels).save(folder / f"{number:06d}.jpg", quality=QUALITY)


def clips_of(path: Path, fps: float | None) -> list[Clip]:
    """Returns the clips of a video file, of a folder of frames, or of a folder of such folders and videos.

    fps: the rate of folders of frames. Raises BadInput if there is no clip of two frames.
    """
    if path.is_file():
        return [_video(path)]
    if not path.is_dir():
        raise BadInput(f"{path}: no such file or folder; give a video, or a folder of frames.")
    if (files := _pictures(path)) is not None:
        return [_folder(path, files, fps)]
    clips = list[Clip]()
    for entry in sorted(path.iterdir(), key=lambda entry: natural(entry.name)):
        if entry.is_dir() and not entry.name.startswith(".") and (files := _pictures(entry)):
            clips.append(_folder(entry, files, fps))
        elif entry.suffix.lower() in VIDEOS and entry.is_file():
            clips.append(_video(entry))
    if not clips:
        raise BadInput(f"{path} holds no frames and no videos; give a folder of pictures, or a video.")
    return clips


def _video(path: Path) -> VideoClip:
    from sanslabel.sources.videos.video_file import video_file

    try:
        facts = video_file(path)
    except Unreadable as error:
        raise BadInput(f"{path}: cannot be read ({error}); give a video, or a folder of frames.") from error
    if facts.frames < 2:
        raise BadInput(f"{path}: has one frame, and nothing moves in it; give a longer video.")
    return VideoClip(path, facts.upright, facts.frames / facts.seconds if facts.seconds else FPS)


def _folder(folder: Path, files: list[str], fps: float | None) -> FolderClip:
    if len(files) < 2:
        raise BadInput(f"{folder}: has one frame, and nothing moves in it; give a folder of at least two.")
    return FolderClip(folder, files, fps or FPS)


def _pictures(folder: Path) -> list[str] | None:
    """Returns the pictures of a folder in natural order; None if there are none. Raises BadInput."""
    try:
        names = [name for name in os.listdir(folder) if os.path.splitext(name)[1].lower() in SUFFIXES]
    except OSError as error:
        raise BadInput(f"{folder} cannot be listed ({error.strerror}); make it readable.") from error
    return sorted((name for name in names if not name.startswith(".")), key=natural) or None
