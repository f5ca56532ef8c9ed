"""Compares sources of positives on moving things: python -m bench.moving

Trains SimCLR on 600 clips of 64 frames (bench/moving_clips.py) for 450 steps of 256, with positives from augmentation,
from near frames, from both, from frames of other clips, and from the sample itself. Near frames are at most 2, 8 or 63
frames away. Five seeds draw the clips, the weights and the order; arms of one seed share all three. On 400 held-out
clips of other pieces, it measures the class of the piece by kNN and a linear probe, and near against far frames. The
probes know the labels of every fourth frame, or of one frame of each clip: then they have not seen every piece at every
angle. A time-contrastive network is measured in the same way. Writes one line per finished run to
bench/results/moving.jsonl, which a later call skips, and prints the table. A run takes two and a half minutes of one
core, and all of them two hours.

--rehearse runs every arm for a few steps on a few clips, in seconds. --arm and --seed choose runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.arms import gain, keep, lines_of, missing, trained_encoder
from bench.learns import ONE_DRAW, accuracies
from bench.markdown import table
from bench.moving_clips import FRAMES, moving_clips
from bench.running import prepared
from sanslabel import views
from sanslabel.encoders import Encoder
from sanslabel.evaluation import pixels, represent, scores_of_features, settle_
from sanslabel.evaluation.features import Division, Features, Frames
from sanslabel.evaluation.protocols.near_far import near_far_aurocs
from sanslabel.methods.method import Method
from sanslabel.methods.simclr import SimCLR
from sanslabel.methods.time_contrastive import TimeContrastive
from sanslabel.randomness import permutation
from sanslabel.sources import Pairs, Source, batches
from sanslabel.sources.order import Grouped

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "bench" / "results" / "moving.jsonl", ROOT / "docs" / "moving.md"
CPU = torch.device("cpu")
SEEDS, REACHES = range(5), (2, 8, FRAMES - 1)
NEAR, FAR = 2, 16
"""frames within which near ones are measured, and beyond which far ones are"""
LABELED, MEASURED = 4, 8
"""every so many frames of the training clips have a label, and of the held-out clips are measured"""
COLUMNS = {
    "knn": "kNN",
    "linear": "linear",
    "knn_once": "kNN, a label a clip",
    "linear_once": "linear, a label a clip",
    "same_clip": "near, same clip",
    "other_clips": "near, others",
}
GAINS = {"knn_gain": "kNN over augmentation", "knn_once_gain": "the same, a label a clip"}


class Size(NamedTuple):
    """The clips and the length of a run."""

    clips: int = 600
    held_out: int = 400
    epochs: int = 3
    batch: int = 256


REHEARSAL = Size(clips=12, held_out=8, epochs=1, batch=64)


class Arm(NamedTuple):
    """A source of positives."""

    name: str
    reach: int = 0
    """frames that a partner may be away; 0 for none"""


ARMS = [
    Arm("augmentation"),
    *(Arm("near and augmentation", reach) for reach in REACHES),
    *(Arm("near", reach) for reach in REACHES),
    Arm("shuffled", FRAMES - 1),
    Arm("self"),
    Arm("time contrastive", NEAR),
]
UNTRAINED = [Arm("pixels"), Arm("random encoder")]


@lru_cache(2)
def data(size: Size, seed: int) -> tuple[Source, Source]:
    """Returns the clips to train on, and held-out clips of other pieces."""
    return moving_clips(size.clips, "train", seed), moving_clips(size.held_out, "test", seed + 1000)


def positives(arm: Arm, clips: Source) -> Source:
    """Returns the clips with the partners of an arm."""
    if arm.name in ("augmentation", "time contrastive"):
        return clips
    if arm.name == "shuffled":  # of 64 frames of any clips
        assert clips.group is not None
        clips = replace(clips, group=clips.group[permutation(7, len(clips))])
    return Pairs(base=clips, near=float(arm.reach))


def method_of(arm: Arm) -> Method:
    """Returns the method of an arm."""
    if arm.name == "time contrastive":
        return replace(TimeContrastive.under(TimeContrastive.small), near=float(NEAR), far=float(2 * NEAR))
    simclr = SimCLR.under(SimCLR.small)
    return replace(simclr, view=views.WHOLE) if arm.name == "near" else simclr


def trained(arm: Arm, clips: Source, size: Size, seed: int) -> Encoder:
    """Returns an encoder after its training, or with the weights that it starts from."""
    source, method = positives(arm, clips), method_of(arm)
    recipe = replace(type(method).small, epochs=size.epochs)
    training = prepared(method, recipe, source, "conv", size=32, batch=size.batch, device=CPU, seed=seed)
    if arm in UNTRAINED:
        settle_(training.net.encoder, clips, reads=clips.image, device=CPU)
        return training.net.encoder.eval()
    assert clips.group is not None
    # Arms of pairs have the same samples in the same order, of different clips in a batch.
    order = Grouped(clips.group) if method.stretch == 1 else source.order_of(method.stretch)
    stream = batches(source, size.batch, seed=seed, epochs=size.epochs, device=CPU, order=order)
    return trained_encoder(training, stream, arm)


def result(arm: Arm, size: Size, seed: int) -> dict[str, Any]:
    """Trains and measures once. Returns a line."""
    clips, held_out = data(size, seed)
    began = process_time()
    encoder = pixels if arm.name == "pixels" else trained(arm, clips, size, seed)
    core_seconds = process_time() - began
    digest = sha256()
    for tensor in encoder.state_dict().values() if isinstance(encoder, Encoder) else ():
        digest.update(tensor.contiguous().numpy().tobytes())
    labeled = clips.subset(torch.arange(0, len(clips), LABELED))
    on_train, _ = represent({"": encoder}, labeled, reads=clips.image, device=CPU)
    on_test, _ = represent({"": encoder}, held_out, reads=clips.image, device=CPU)
    sparse = torch.arange(0, len(held_out), MEASURED)

    def measured(rows: Tensor) -> Mapping[str, float]:
        """Returns accuracies in % on held-out clips of probes that are fitted on these labeled frames."""
        division = Division(labeled.labels[rows], held_out.labels[sparse], len(clips.classes), "held-out clips")
        features = {"student": Features(on_train[""][rows], on_test[""][sparse])}
        return accuracies(scores_of_features(features, division, protocols=ONE_DRAW, seed=seed))["student"]

    each = FRAMES // LABELED
    clip = torch.arange(len(labeled) // each)
    once = measured(clip * each + 7 * clip % each)  # of each clip another of its labeled frames
    assert held_out.group is not None
    assert held_out.time is not None
    same, other = near_far_aurocs(on_test[""], Frames(held_out.group, held_out.time), NEAR, FAR, seed)
    return {
        **about(arm, size, seed),
        "core_seconds": round(core_seconds),
        "digest": digest.hexdigest()[:12],
        **measured(torch.arange(len(labeled))),
        **{f"{protocol}_once": accuracy for protocol, accuracy in once.items()},
        "same_clip": round(100 * same.mean().item(), 2),
        "other_clips": round(100 * other.mean().item(), 2),
    }


def about(arm: Arm, size: Size, seed: int) -> dict[str, Any]:
    """Returns the fields of a line that identify its run."""
    return {"arm": arm.name, "reach": arm.reach, "seed": seed, **size._asdict()}


def rendered(lines: list[Mapping[str, Any]]) -> str:
    """Returns the table of all arms: means over seeds, and gains in kNN over augmentation in runs of equal seeds."""
    by_arm = {arm: {r["seed"]: r for r in lines if (r["arm"], r["reach"]) == arm} for arm in (*UNTRAINED, *ARMS)}
    base, cells = by_arm[ARMS[0]], []
    for arm, runs in by_arm.items():
        if runs:
            means = {key: f"{sum(r[key] for r in runs.values()) / len(runs):.1f}" for key in COLUMNS}
            for key in ("knn", "knn_once"):
                means[f"{key}_gain"] = gain(runs, base, key) if arm != ARMS[0] else ""
            cells.append([arm.name, str(arm.reach or ""), str(len(runs)), *(means[key] for key in (*COLUMNS, *GAINS))])
    head = ["positives", "frames away", "seeds", *COLUMNS.values(), *GAINS.values()]
    text = table(head, cells, right=range(1, len(head)))
    same = {
        r["digest"] == by_arm[Arm("self")][seed]["digest"] for seed, r in base.items() if seed in by_arm[Arm("self")]
    }
    if same:
        equal = "equal, bit for bit" if same == {True} else "DIFFERENT"
        text += f"\n\nThe weights of `self` and `augmentation` are {equal}."
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rehearse", action="store_true", help="run every arm for a few steps on a few clips")
    parser.add_argument("--arm", action="append", help="only arms of this name")
    parser.add_argument("--seed", type=int, action="append", help="only this seed")
    parser.add_argument("--clips", type=int, default=Size().clips, help="only a try has fewer")
    parser.add_argument("--held-out", type=int, default=Size().held_out, help="only a try has fewer")
    parser.add_argument("--epochs", type=int, default=Size().epochs, help="only a try has fewer")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--render", action="store_true", help="only write docs/moving.md")
    flags = parser.parse_args()
    size = REHEARSAL if flags.rehearse else Size(flags.clips, flags.held_out, flags.epochs)
    file = None if flags.rehearse else flags.results
    done = lines_of(file)
    arms = [arm for arm in (*UNTRAINED, *ARMS) if not flags.arm or arm.name in flags.arm]
    seeds = flags.seed or list(SEEDS)[: 1 if flags.rehearse else None]
    for arm, seed in missing(done, [] if flags.render else arms, seeds, lambda arm, seed: about(arm, size, seed)):
        done.append(keep(result(arm, size, seed), file))
    chosen = [line for line in done if about(Arm("", 0), size, 0).keys() <= line.keys() and line["clips"] == size.clips]
    if chosen:
        print(rendered(chosen))
    if chosen and file == RESULTS and size == Size():
        PAGE.write_text(f"{HEAD}\n{rendered(chosen)}\n")


HEAD = f"""<!-- Made by `python -m bench.moving`: edit bench/moving.py, not this page. -->
# Moving things: which positives teach what a thing is

{(__doc__ or "").partition(chr(10) * 2)[2].strip()}
"""


if __name__ == "__main__":
    main()
