"""Small videos, written for tests."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_video(
    path: Path, frames, fps=25, codec="libx264", pixels="yuv420p", gop=12, times=None, options=None, **context
) -> Path:
    """Encodes frames (H, W, 3) or (H, W) uint8, at a rate or at the given times in seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        stream.codec_context.gop_size = gop
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24" if frame.ndim == 3 else "gray")
            if times is not None:
                picture.pts, picture.time_base = round(times[number] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def level(number: int) -> int:
    """The gray level of a frame of a counter video."""
    return 20 + 3 * number


def counter(count=60, height=48, width=64) -> list[np.ndarray]:
    """Frames whose gray level counts."""
    return [np.full((height, width, 3), level(number), np.uint8) for number in range(count)]


def moving(count=30, start=0, height=48, width=64, seed=0) -> list[np.ndarray]:
    """Frames of one smooth texture that moves to the left."""
    random = np.random.default_rng(seed)
    phase, color = random.uniform(0, 6, 3), random.uniform(20, 120, 3)
    y, x = np.mgrid[:height, :width]
    return [
        np.stack([100 + color[c] * np.sin((x + start + t) / 7 + y / 9 + phase[c]) for c in range(3)], 2)
        .clip(0, 255)
        .astype(np.uint8)
        for t in range(count)
    ]
