"""How fast frames of a video come into the cache, beside PyAV alone, and what pairs cost a step: python -m bench.videos
[VIDEO]

Without a video, one is made. Seconds are those of the processor, over all threads, so that other work on the machine
counts little.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from sanslabel import encoders
from sanslabel.engine import optimize, players_of
from sanslabel.methods.simclr import SimCLR
from sanslabel.sources import Data, Source, batches, open_source, paired
from sanslabel.sources.pictures.cache import cached

SIDE, BATCH, STEPS, TURNS = 32, 128, 3, 5
FRAMES, HEIGHT, WIDTH = 2000, 720, 1280
"""the video that is made"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", nargs="?", type=Path)
    given = parser.parse_args().video
    with TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        video = given or made(Path(folder, "made.mp4"))
        for line in decoding(video):
            print(json.dumps(line), flush=True)
        print(json.dumps(stepping(open_source(Data((video,)), image_size=SIDE))))


def decoding(video: Path) -> Iterator[dict[str, Any]]:
    """Yields the frames a second that PyAV decodes alone, that it turns into arrays, and that come into the cache."""
    import av

    def alone(convert: bool) -> int:
        count = 0
        with av.open(str(video)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                count += 1
                if convert:
                    frame.to_ndarray(format="rgb24")
        return count

    def into_cache() -> int:
        return len(open_source(Data((video,)), image_size=SIDE))

    for case, call in {
        "PyAV alone": lambda: alone(False),
        "PyAV, as arrays": lambda: alone(True),
        "into the cache": into_cache,
    }.items():
        seconds, count = cpu_seconds(call)
        yield {"case": case, "frames": count, "frames_per_cpu_second": round(count / seconds)}


def stepping(source: Source) -> dict[str, Any]:
    """Returns the processor time of a step on images as a share of that of a step on pairs, both cached in memory."""
    torch.set_num_threads(1)
    kept = cached(source, "ram", 0)
    steps = {"images": stepper(kept), "pairs": stepper(paired(kept, 1.0))}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(TURNS):
        for name in sorted(steps, reverse=bool(turn % 2)):
            seconds[name].append(cpu_seconds(steps[name])[0] / STEPS)
    images, pairs = (median(seconds[name]) for name in ("images", "pairs"))
    return {"case": "step", "images": round(images, 4), "pairs": round(pairs, 4), "speed": round(images / pairs, 3)}


def stepper(source: Source) -> Callable[[], int]:
    """Returns a function that trains SimCLR for some steps, and the number of steps."""
    method = SimCLR.under(SimCLR.small).sized(SIDE)
    encoder = encoders.build("conv", channels=source.channels, image_size=SIDE)
    net = method.networks(encoder, source.facts(SIDE)).train()
    players = players_of(net, SimCLR.small, BATCH)
    source = replace(source)
    stream = batches(source, min(BATCH, len(source)), seed=0, epochs=10**6, device=torch.device("cpu"))
    records = optimize(method, net, players, stream)

    def steps() -> int:
        for _ in range(STEPS):
            next(records)
        return STEPS

    steps()  # the first ones take memory
    return steps


def cpu_seconds(call: Callable[[], int]) -> tuple[float, int]:
    begin = time.process_time()
    count = call()
    return time.process_time() - begin, count


def made(path: Path) -> Path:
    """Writes a video of a texture that moves."""
    import av

    y, x = np.mgrid[:HEIGHT, : 2 * WIDTH]
    texture = np.stack([128 + 90 * np.sin(x / (9 + c) + y / 17) for c in range(3)], 2).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(FRAMES):
            begin = number * 3 % WIDTH
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(texture[:, begin : begin + WIDTH]), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


if __name__ == "__main__":
    main()
