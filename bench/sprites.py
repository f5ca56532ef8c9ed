"""Compares tracks of sprites as positives: python -m bench.sprites

200 videos of 64 frames, 96 x 96 pixels, each with three moving pieces of Fashion-MNIST that turn, grow, cross and are
hidden by bars. SimCLR learns from crops of their boxes, in 450 steps of 256. Its positives are augmentation alone,
other boxes of the true track, boxes that `sanslabel track` has made without knowing the objects, true boxes of shuffled
tracks, and the same place later. Five seeds draw the videos, the weights and the order. On 100 videos of held-out
pieces, it measures the class of the piece by kNN and a linear probe. Writes one line per finished run to
bench/results/sprites.jsonl, which a later call skips, and prints the table. A run takes about five minutes of one core.

--rehearse runs every arm for a few steps on a few videos, in seconds. --arm and --seed choose runs.
"""

from __future__ import annotations

import argparse
import atexit
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import pi
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from bench.arms import gain, keep, lines_of, missing, trained_encoder
from bench.learns import ONE_DRAW, accuracies
from bench.markdown import table
from bench.running import prepared
from sanslabel.batch import Images
from sanslabel.encoders import Encoder
from sanslabel.evaluation import pixels, represent, scores_of_features, settle_
from sanslabel.evaluation.features import Division, Features
from sanslabel.methods.simclr import SimCLR
from sanslabel.randomness import permutation
from sanslabel.sources import Pairs, Request, Source, Split, batches, open_source, paired
from sanslabel.sources.pictures.cache import cached
from sanslabel.sources.tracks.crops import Crops
from sanslabel.use.track import track

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "sprites.jsonl"
CPU = torch.device("cpu")
SEEDS = range(5)
FRAMES, SIDE, PIECE, SPRITES, FPS = 64, 96, 32, 3, 25.0
"""frames of a video, their side, the side of a piece at scale 1, and pieces of a video"""
TRAINED_AT = 32
"""side of the pictures that the encoder reads"""
NEAR = FRAMES / FPS
"""seconds that a partner may be away: the whole video"""
HIDDEN = 0.3
"""share of a sprite that is visible at least where it has a true box"""


class Size(NamedTuple):
    """The videos and the length of a run."""

    videos: int = 200
    held_out: int = 100
    steps: int = 450
    batch: int = 256


REHEARSAL = Size(videos=4, held_out=3, steps=3, batch=64)
ARMS = ("augmentation", "true tracks", "our tracker", "shuffled tracks", "same place later")
UNTRAINED = ("pixels", "random encoder")


class Videos(NamedTuple):
    """Videos with the true boxes of their sprites."""

    frames: np.ndarray
    """(V, 64, 96, 96) uint8"""
    corners: np.ndarray
    """(V, 64, 3, 4), left, top, right and bottom, the extent of what is drawn"""
    visible: np.ndarray
    """(V, 64, 3), share of the sprite that no other one and no bar covers"""
    labels: np.ndarray
    """(V, 3)"""


def sprites(count: int, split: Split, seed: int) -> Videos:
    """Returns videos of pieces of Fashion-MNIST, drawn by the seed. split: "train" or "test", for the pieces."""
    source, generator = open_source("fashion", split), torch.Generator().manual_seed(seed)
    row = torch.randperm(len(source), generator=generator)[: count * SPRITES]
    pieces = source.load(Request(row)).images.pixels.float()[:, 0].unflatten(0, (count, SPRITES)) / 255
    videos = [_video(some, generator) for some in pieces]
    frames, corners, visible = (np.stack(values) for values in zip(*videos, strict=True))
    return Videos(frames, corners, visible, source.labels[row].view(count, SPRITES).numpy())


def _video(pieces: Tensor, generator: torch.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the frames, corners and visible shares of one video."""

    def smooth(low: float, high: float) -> Tensor:
        """Returns a smooth curve for each sprite, (3, 64) from `low` to `high`, of half to one and a half periods."""
        periods, phase = 0.5 + torch.rand(SPRITES, 1, generator=generator), torch.rand(SPRITES, 1, generator=generator)
        return low + (high - low) * (1 + torch.sin(2 * pi * (phase + periods * torch.arange(FRAMES) / FRAMES))) / 2

    inner = 1 - PIECE / SIDE
    path = smooth(-pi / 3, pi / 3), smooth(0.7, 1.3), smooth(-inner, inner), smooth(-inner, inner)
    light = smooth(0.7, 1.2)[..., None, None]
    drawn, alpha = _drawn(pieces, *path), _drawn((pieces > 0.04).float(), *path)
    ground = 0.3 + torch.zeros(1, 1, SIDE, SIDE)
    for cells, strength in ((6, 0.06), (24, 0.05), (48, 0.04)):
        field = strength * torch.randn(1, 1, cells, cells, generator=generator)
        ground += F.interpolate(field, size=(SIDE, SIDE), mode="bicubic", align_corners=False)
    frames = ground[0].expand(FRAMES, SIDE, SIDE).clamp(0, 1)
    uncovered = alpha.clone()
    for number in range(SPRITES):
        frames = torch.lerp(frames, drawn[number] * light[number], alpha[number])
        uncovered[:number] *= 1 - alpha[number]
    place, width = torch.rand(2, 2, generator=generator)
    for at, wide in zip(place * SIDE, 6 + 6 * width, strict=True):  # bars that stand still
        bar = (torch.arange(SIDE) - at).abs() < wide / 2
        frames, uncovered = frames.where(~bar, 0.15), uncovered * ~bar
    frames = frames + 0.01 * torch.randn(frames.shape, generator=generator)  # of the sensor
    shown, area = alpha > 0.5, alpha.sum((2, 3)).clamp(min=1)
    bounds = []
    for axis in (2, 3):  # rows, then columns
        line = shown.any(axis)
        first, length = line.float().argmax(2), line.shape[2]
        bounds += (
            [length - line.flip(2).float().argmax(2), first]
            if axis == 3
            else [first, length - line.flip(2).float().argmax(2)]
        )
    left, right, bottom, top = bounds
    corners = torch.stack([left, top, right, bottom], 2).transpose(0, 1)  # (64, 3, 4)
    visible = (uncovered.sum((2, 3)) / area).T
    return (255 * frames).round().clamp(0, 255).byte().numpy(), corners.double().numpy(), visible.numpy()


def _drawn(pieces: Tensor, angle: Tensor, scale: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Returns pictures (3, 64, 96, 96) of pieces (3, 28, 28) along a path of angle, scale and place, (3, 64) each."""
    cosine, sine = (f(angle) / scale * SIDE / PIECE for f in (torch.cos, torch.sin))
    turn = torch.stack([torch.stack([cosine, sine], -1), torch.stack([-sine, cosine], -1)], -2)  # (3, 64, 2, 2)
    shift = -(turn @ torch.stack([x, y], -1)[..., None])
    grid = F.affine_grid(torch.cat([turn, shift], -1).flatten(0, 1), [SPRITES * FRAMES, 1, SIDE, SIDE], False)
    repeated = pieces[:, None].repeat_interleave(FRAMES, 0)
    return F.grid_sample(repeated, grid, align_corners=False)[:, 0].unflatten(0, (SPRITES, FRAMES))


def written(videos: Videos, folder: Path) -> Path:
    """Writes videos in MOTChallenge's format, and returns the folder."""
    for number, (frames, corners, visible, labels) in enumerate(zip(*videos, strict=True)):
        sequence = folder / f"v{number:03d}"
        (sequence / "img1").mkdir(parents=True)
        (sequence / "gt").mkdir()
        lines = []
        for frame, picture in enumerate(frames, 1):
            Image.fromarray(picture).save(sequence / "img1" / f"{frame:06d}.png", compress_level=1)
            for i, (left, top, right, bottom) in enumerate(corners[frame - 1].tolist()):
                box = f"{left + 1:g},{top + 1:g},{right - left:g},{bottom - top:g}"
                lines.append(f"{frame},{i + 1},{box},1,{labels[i] + 1},{visible[frame - 1, i]:.3f}\n")
        (sequence / "gt" / "gt.txt").write_text("".join(lines))
        (sequence / "seqinfo.ini").write_text(f"[Sequence]\nframeRate={FPS:g}\n")
    return folder


@lru_cache(1)
def data(size: Size, seed: int) -> tuple[Path, Source, Source]:
    """Returns the folder of the videos to train on, their true tracks, and those of held-out videos."""
    temporary = TemporaryDirectory(prefix="sprites-")
    atexit.register(temporary.cleanup)
    folder = Path(temporary.name)
    train = written(sprites(size.videos, "train", seed), folder / "train")
    test = written(sprites(size.held_out, "test", seed + 1000), folder / "test")
    true, held_out = (cached(open_source(root, image_size=TRAINED_AT), "ram", 0) for root in (train, test))
    return train, true, held_out


@lru_cache(1)
def our_tracks(size: Size, seed: int) -> Source:
    """Returns the boxes that `sanslabel track` makes of the same videos."""
    videos, _, _ = data(size, seed)
    clips = videos.with_name("clips")
    clips.mkdir()
    for sequence in sorted(videos.iterdir()):
        (clips / sequence.name).symlink_to(sequence / "img1")
    track(clips, videos.with_name("ours"), fps=FPS, device="cpu")
    return cached(open_source(videos.with_name("ours"), image_size=TRAINED_AT), "ram", 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class SamePlace(Pairs):
    """Crops, each with a crop of the same place in another frame of its video as the partner: mostly background."""

    def load(self, request: Request) -> Any:
        loaded = self.base.load(request)
        crops = cast(Crops, self.base)
        store = cast(Any, crops.base.store)
        partner = self.partners(loaded.index, request.key)
        moved = replace(store, frame=store.frame.copy())
        moved.frame[loaded.index.numpy()] = store.frame[partner.numpy()]  # the box stays, its frame is another one
        there = replace(crops, base=replace(crops.base, store=moved, cache=None)).load(request)
        return loaded._replace(signals={**loaded.signals, "partner": cast(Images, there.images)}, partner=partner)


def positives(arm: str, size: Size, seed: int) -> Source:
    """Returns crops with the partners of an arm."""
    _, true, _ = data(size, seed)
    if arm == "our tracker":
        return paired(our_tracks(size, seed), NEAR)
    if arm == "shuffled tracks":
        base = cast(Crops, true).base
        assert base.group is not None
        shuffled = replace(base, group=base.group[permutation(7, len(true))])
        return paired(true.with_pictures(shuffled), 1e9)
    if arm == "same place later":
        return SamePlace(base=true.with_varied_boxes(), near=NEAR)
    return paired(true, NEAR) if arm == "true tracks" else true.with_varied_boxes()


def trained(arm: str, size: Size, seed: int) -> Encoder:
    """Returns an encoder after its training, or with the weights that it starts from."""
    source = positives(arm, size, seed)
    method, epochs = SimCLR.under(SimCLR.small), -(-size.steps * size.batch // max(1, len(source))) + 1
    training = prepared(
        method,
        replace(SimCLR.small, epochs=epochs),
        source,
        "conv",
        size=TRAINED_AT,
        batch=size.batch,
        device=CPU,
        seed=seed,
    )
    if arm in UNTRAINED:
        settle_(training.net.encoder, source, reads=source.image, device=CPU)
        return training.net.encoder.eval()
    stream = batches(source, size.batch, seed=seed, epochs=epochs, device=CPU)
    # The schedule ends with the last of the equally many steps of each arm, however many boxes it has.
    stream = (
        (clock._replace(steps=size.steps), batch) for _, (clock, batch) in zip(range(size.steps), stream, strict=False)
    )
    return trained_encoder(training, stream, arm)


def result(arm: str, size: Size, seed: int) -> dict[str, Any]:
    """Trains and measures once. Returns a line."""
    _, true, held_out = data(size, seed)
    began = process_time()
    encoder = pixels if arm == "pixels" else trained(arm, size, seed)
    core_seconds = process_time() - began
    every = [torch.arange(0, len(source), step) for source, step in ((true, 8), (held_out, 8))]
    few, measured = true.subset(every[0]), held_out.subset(every[1])
    on_train, _ = represent({"": encoder}, few, reads=true.image, device=CPU)
    on_test, _ = represent({"": encoder}, measured, reads=true.image, device=CPU)
    division = Division(few.labels, measured.labels, len(true.classes), "held-out videos")
    features = {"student": Features(on_train[""], on_test[""])}
    boxes = len(our_tracks(size, seed)) if arm == "our tracker" else len(true)
    scores = accuracies(scores_of_features(features, division, protocols=ONE_DRAW, seed=seed))["student"]
    return {**about(arm, size, seed), "core_seconds": round(core_seconds), "boxes": boxes, **scores}


def about(arm: str, size: Size, seed: int) -> dict[str, Any]:
    """Returns the fields of a line that identify its run."""
    return {"arm": arm, "seed": seed, **size._asdict()}


def rendered(lines: list[Mapping[str, Any]]) -> str:
    """Returns the table of all arms: means over seeds, and kNN's gain over augmentation in runs of equal seeds."""
    by_arm = {arm: {line["seed"]: line for line in lines if line["arm"] == arm} for arm in (*UNTRAINED, *ARMS)}
    base, cells = by_arm[ARMS[0]], []
    for arm, runs in by_arm.items():
        if runs:
            gained = gain(runs, base) if arm != ARMS[0] else ""
            means = [sum(line[key] for line in runs.values()) / len(runs) for key in ("boxes", "knn", "linear")]
            cells.append([arm, str(len(runs)), f"{means[0]:,.0f}", f"{means[1]:.1f}", gained, f"{means[2]:.1f}"])
    head = ["positives", "seeds", "boxes", "kNN", "over augmentation", "linear"]
    return table(head, cells, right=range(1, len(head)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rehearse", action="store_true", help="run every arm for a few steps on a few videos")
    parser.add_argument("--arm", action="append", help="only arms of this name")
    parser.add_argument("--seed", type=int, action="append", help="only this seed")
    parser.add_argument("--videos", type=int, default=Size().videos, help="only a try has fewer")
    parser.add_argument("--held-out", type=int, default=Size().held_out, help="only a try has fewer")
    parser.add_argument("--steps", type=int, default=Size().steps, help="only a try has fewer")
    parser.add_argument("--results", type=Path, default=RESULTS)
    flags = parser.parse_args()
    size = REHEARSAL if flags.rehearse else Size(flags.videos, flags.held_out, flags.steps)
    file = None if flags.rehearse else flags.results
    done = lines_of(file)
    arms = [arm for arm in (*UNTRAINED, *ARMS) if not flags.arm or arm in flags.arm]
    seeds = flags.seed or list(SEEDS)[: 1 if flags.rehearse else None]
    for arm, seed in missing(done, arms, seeds, lambda arm, seed: about(arm, size, seed)):
        done.append(keep(result(arm, size, seed), file))
    if chosen := [line for line in done if about("", size, 0).items() - {("arm", ""), ("seed", 0)} <= line.items()]:
        print(rendered(chosen))


if __name__ == "__main__":
    main()
