"""Frames of a video file, decoded with PyAV. The files are not trusted.

A frame's time is the one that the file states for it, counted from the file's start. It is never computed from a rate:
many videos have frames at irregular times.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Any

import numpy as np

from sanslabel.errors import BadInput
from sanslabel.sources.pictures.stored_picture import PIXELS
from sanslabel.sources.stores.store import Unreadable
from sanslabel.sources.videos.video_header import check_counts

CONTAINERS = "mov,matroska,webm,avi,mpeg,mpegts,ogg,asf,flv"
"""containers that are read; every further one is one more that a malicious file can reach, and playlists name others"""
FRAMES = 1 << 23
"""most frames of a video: four days at 24 a second"""
LONGEST = 1 << 14
"""longest side of a frame in pixels"""
COLORED = 8
"""levels of 255 by which the channels of a pixel differ at least in a video with color"""
THUMBNAIL = (32, 18)
"""width and height of the gray thumbnails that frames are compared by"""
HD = 720
"""height from which colors without a stated matrix are those of HD (BT.709), and below it those of BT.601"""


@dataclass(frozen=True, kw_only=True)
class VideoFile:
    """The facts that a video file states before any frame is decoded."""

    width: int
    height: int
    rotation: int
    """degrees, counter-clockwise, by which frames are turned to be upright"""
    frames: int
    """number of frames, estimated where the file does not state it"""
    seconds: float
    """length of the video, 0 where the file does not state it"""
    guessed_colors: bool
    """True if the file does not state the matrix of its colors"""

    @property
    def upright(self) -> tuple[int, int]:
        """Returns width and height of upright frames."""
        return (self.height, self.width) if self.rotation % 180 else (self.width, self.height)


@dataclass(frozen=True, eq=False)
class Frame:
    """A decoded frame."""

    time: float
    """seconds from the start of the file"""
    av_frame: Any
    """PyAV's frame, whose buffer the decoder uses again later"""
    damaged: bool
    """True if parts of it could not be decoded"""
    reducers: tuple[Any, Any]
    """PyAV's reducers of frames to pixels and to thumbnails, which all frames of a file share: making them takes longer
    than reducing a frame"""

    def pixels(self, channels: int, side: int) -> np.ndarray:
        """Returns upright pixels with the shorter side reduced to `side`, (C, H, W) uint8."""
        from av.video.reformatter import Interpolation

        frame = self.av_frame
        shorter = min(frame.width, frame.height)
        scale = min(1.0, side / shorter)
        width, height = max(1, round(frame.width * scale)), max(1, round(frame.height * scale))
        matrix = None if frame.colorspace != UNSPECIFIED else "ITU709" if frame.height >= HD else "ITU601"
        reduced = (
            self.reducers[0]
            .reformat(
                frame,
                width,
                height,
                "rgb24" if channels == 3 else "gray",
                src_colorspace=matrix,
                interpolation=Interpolation.AREA | Interpolation.ACCURATE_RND,
                threads=1,
            )
            .to_ndarray()
        )
        turned = np.rot90(reduced, round(frame.rotation / 90))
        return np.ascontiguousarray(turned[None] if channels == 1 else turned.transpose(2, 0, 1))

    def thumbnail(self) -> np.ndarray:
        """Returns the whole frame in gray, (18, 32) uint8, not turned."""
        from av.video.reformatter import Interpolation

        area, reducer = Interpolation.AREA, self.reducers[1]
        return reducer.reformat(self.av_frame, *THUMBNAIL, "gray", interpolation=area, threads=1).to_ndarray()


UNSPECIFIED = 2
"""FFmpeg's number for a matrix of colors that is not stated"""


@dataclass
class Damage:
    """The number of pieces of a file that could not be decoded."""

    lost: int = 0


def video_file(path: Path) -> VideoFile:
    """Returns the facts that a video states, with those of its first frame. Raises Unreadable."""
    with _open_video(path) as (container, stream):
        first = next(_frames_from_here(container, stream), None)
        if first is None:
            raise Unreadable("no frame of it can be decoded")
        count, frame = stream.frames, first.av_frame
        if not count and (rate := stream.average_rate or stream.guessed_rate):
            count = round(_seconds(container, stream) * float(rate))
        return VideoFile(
            width=frame.width,
            height=frame.height,
            rotation=round(frame.rotation / 90) * 90,
            frames=max(1, min(count, FRAMES)),
            seconds=_seconds(container, stream),
            guessed_colors=frame.colorspace == UNSPECIFIED and not _is_gray(frame),
        )


def has_color(path: Path) -> bool:
    """Returns True if a few frames of a video, all over its length, have any color. Raises Unreadable."""
    with _open_video(path) as (container, stream):
        length = _seconds(container, stream)
        for place in (0.5, 0.25, 0.75, 0.0):
            with suppress(*_errors()):
                container.seek(max(0, round(place * length * 1e6)))
                frame = next(_frames_from_here(container, stream), None)
                if frame is not None and not _is_gray(frame.av_frame):
                    pixels = frame.pixels(3, THUMBNAIL[1]).astype(np.int16)
                    if (pixels.max(0) - pixels.min(0)).max() > COLORED:
                        return True
    return False


def frames(path: Path, threads: int = 0, damage: Damage | None = None) -> Generator[Frame, None, None]:
    """Yields all frames in the order of their times.

    threads: the number of threads that decode, by default one for each core; it changes no pixel. A frame is valid
    until the next one. What cannot be decoded is left out, and counted in `damage`. Raises Unreadable if the file
    cannot be opened.
    """
    with _open_video(path, threads) as (container, stream):
        yield from _frames_from_here(container, stream, damage)


def frame_at(path: Path, time: float, threads: int = 0) -> Frame:
    """Returns the frame that is shown at a time: the last one that begins then or earlier. Before the first frame, it
    is the first one. Raises Unreadable."""
    with _open_video(path, threads) as (container, stream):
        target = round((time + EXACT + _start(container)) / float(stream.time_base))
        for key_frame in (target, 0):  # from the key frame before it on, and from the start if that fails
            shown = None
            with suppress(*_errors()):
                container.seek(max(0, key_frame), stream=stream)
                for frame in _frames_from_here(container, stream):
                    if shown is not None and frame.time > time + EXACT:
                        break
                    shown = frame
            if shown is not None and (key_frame == 0 or shown.time <= time + EXACT):
                return shown
    raise Unreadable("no frame of it can be decoded")


EXACT = 1e-6
"""seconds by which times may differ that are meant to be equal"""


@contextmanager
def _open_video(path: Path, threads: int = 0) -> Iterator[tuple[Any, Any]]:
    """Context manager that gives an open container and its first stream of video."""
    try:
        import av
    except (ImportError, OSError) as error:
        raise BadInput(f"{path}: reading videos needs PyAV ({error}); pip install 'sanslabel[video]'.") from error
    with _unreadable():
        status = path.stat()
        if not S_ISREG(status.st_mode):
            raise Unreadable("not a file, but a folder, a device or a pipe")
        check_counts(path, FRAMES, LONGEST, PIXELS)
        limits = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file", "max_pixels": str(PIXELS)}
        container = av.open(f"file:{path.absolute()}", options=limits, metadata_errors="ignore")
    with container:
        with _unreadable():
            stream = next((s for s in container.streams.video if not _is_cover(s)), None)
            if stream is None:
                raise Unreadable("has no video, only sound or other data")
            context = stream.codec_context
            if context is None:
                raise Unreadable("its codec is one that this FFmpeg cannot decode")
            if context.width * context.height > PIXELS or max(context.width, context.height) > LONGEST:
                raise Unreadable(f"its frames of {context.width:,} x {context.height:,} pixels are too large to decode")
            if stream.frames > min(FRAMES, status.st_size):
                raise Unreadable(f"it announces {stream.frames:,} frames in {status.st_size:,} bytes")
            context.options = {"max_pixels": str(PIXELS)}
            context.thread_type = "AUTO"
            context.thread_count = threads
        yield container, stream


def _frames_from_here(container: Any, stream: Any, damage: Damage | None = None) -> Iterator[Frame]:
    """Yields the frames from the container's position on. Packets that cannot be decoded are passed over."""
    from av.error import EOFError as End
    from av.error import FFmpegError
    from av.video.reformatter import VideoReformatter

    reducers = VideoReformatter(), VideoReformatter()
    damage = damage or Damage()
    start, last, packets = _start(container), 0.0, container.demux(stream)
    step = 1 / float(stream.average_rate or 25)
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError:  # the file is cut off or damaged here
            packet = None
            damage.lost += 1
        try:
            ready = stream.codec_context.decode(packet)
        except End:
            return
        except FFmpegError:
            ready = []
            damage.lost += 1
        for frame in ready:
            if max(frame.width, frame.height) > LONGEST:
                continue
            stamp = frame.pts if frame.pts is not None else frame.dts
            last = last + step if stamp is None else float(stamp * stream.time_base) - start
            yield Frame(last, frame, bool(frame.is_corrupt), reducers)
        if packet is None:
            return


def _start(container: Any) -> float:
    return (container.start_time or 0) / 1e6


def _seconds(container: Any, stream: Any) -> float:
    """Returns the length of a video that its file states, or 0."""
    return float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6


def _is_gray(frame: Any) -> bool:
    return frame.format.name.startswith("gray")


def _is_cover(stream: Any) -> bool:
    """Returns True for a picture that is attached to a file, such as the cover of an album."""
    return bool(stream.disposition & type(stream.disposition).attached_pic)


def _errors() -> tuple[type[Exception], ...]:
    """Returns the errors of FFmpeg and of the system."""
    from av.error import FFmpegError

    return (FFmpegError, OSError)


@contextmanager
def _unreadable() -> Iterator[None]:
    """Context manager that raises Unreadable for the errors of FFmpeg and of the system."""
    from av.error import FFmpegError

    try:
        yield
    except Unreadable:
        raise
    except FFmpegError as error:
        raise Unreadable(f"FFmpeg cannot read it ({error.strerror or error})") from error
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error
