"""Reads the sound track of one video: a mono wave of 16,000 samples a second, from the start of the video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np

from sanslabel.errors import BadInput
from sanslabel.sources.sounds.wave import LONGEST, RATE
from sanslabel.sources.stores.store import Unreadable

GAP = RATE // 10
"""samples by which a sound must come late to be preceded by silence; smaller differences are rounding"""


def track_blocks(open_file: Callable[[], BinaryIO]) -> Iterator[np.ndarray]:
    """Yields the first sound track of a video in blocks, (T,) int16: one channel at `RATE`.

    The first sample belongs to the time 0 of the video. Gaps between the times that the file states are filled with
    silence. A track that is damaged gives the sound up to there. Raises Unreadable if there is no sound, and BadInput
    if PyAV is not installed.
    """
    library = _library()
    count = 0
    try:
        with open_file() as file, library.open(file) as container:
            if not container.streams.audio:
                raise Unreadable("has no sound track")
            for block in _placed(library, container, container.streams.audio[0]):
                count += len(block)
                if count > LONGEST * RATE:
                    raise Unreadable(f"has more than {LONGEST // 3600} hours of sound")
                yield block
    except (library.error.FFmpegError, OSError, ValueError) as error:
        if not count:
            raise Unreadable(" ".join(str(error).split()) or type(error).__name__) from error
    if not count:
        raise Unreadable("has a sound track without sound")


def _placed(library: Any, container: Any, stream: Any) -> Iterator[np.ndarray]:
    """Yields the samples of a stream at their times, counted from the start of the container."""
    resampler = library.AudioResampler(format="s16", layout="mono", rate=RATE)
    start, sent = (container.start_time or 0) / 1e6, 0
    for frame in container.decode(stream):
        late = 0 if frame.pts is None else round((float(frame.pts * frame.time_base) - start) * RATE) - sent
        if sent == 0 or late > GAP:
            yield np.zeros(max(0, min(late, LONGEST * RATE)), np.int16)
            sent += max(0, late)
        before_zero = max(0, -late) if sent == 0 else 0
        frame.pts = None  # the resampler counts by itself
        for piece in resampler.resample(frame):
            block = piece.to_ndarray().reshape(-1)
            sent += len(block)
            yield block[before_zero:]
            before_zero = max(0, before_zero - len(block))
    for piece in resampler.resample(None):
        yield piece.to_ndarray().reshape(-1)


def _library() -> Any:
    try:
        import av
    except (ImportError, OSError) as error:
        raise BadInput(f"Reading videos needs PyAV ({error}); pip install 'sanslabel[video]'.") from error
    return av
