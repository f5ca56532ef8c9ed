"""Measures what two encoders find in bouncing shapes with sound: python -m bench.shapes_with_sound FOLDER

`cross_modal` and `avid` learn from the shapes of bench/bouncing.py: 2,000 pairs of four frames and a second of sound,
in 300 steps of 128. The recall of partners among 400 test pairs is shown beside its bound. Then the pitch of a sound is
predicted from its picture alone, by ridge regression on features of the picture, fitted on 100 training pairs or on
all. A method of both signals must know the pitch, which is the size of the shape. SimCLR on the pictures alone need
not: it is the control, with the same encoder and steps, beside pixels and the encoder before training.

Shapes are plain or cluttered. The size of a plain shape is legible in its pixels, since a larger one has more light
pixels, so plain shapes hardly tell methods apart. Half of the cluttered ones are darker than their background, and
backgrounds are clouds. Clutter and the number of 100 were chosen on the last fifth of the training pairs.

Writes one line per finished run to bench/results/shapes_with_sound.jsonl, which a later call skips, and prints the
tables. Three seeds draw the weights and the order. A run takes one to four minutes of one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.arms import Line, keep, lines_of, missing
from bench.bouncing import bound, pitch, with_test
from bench.learning_page import Paired, spread
from bench.markdown import table
from bench.two_signals import CPU, pair_rows, pair_scores, render, trained, untrained
from sanslabel.evaluation import pixels, represent
from sanslabel.run_folder import RunFolder
from sanslabel.sources import open_source

RESULTS = Path(__file__).parent / "results" / "shapes_with_sound.jsonl"
SMALLEST = {"name": "mlp", "hidden": [512, 256]}
"""the encoder `mlp` of both signals"""
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""weights of the ridge, as shares of the number of samples"""
FEW = 100
"""training pairs of a fit on few"""
METRICS = ("recall at 1", "recall at 5", "recall at 10", "median rank", "precision at 1")
ARMS = ("untrained", "simclr, pictures alone", "cross_modal", "avid")
SEEDS = range(3)
KINDS = ("cluttered", "plain")
REST = {"batch": 128, "precision": "bfloat16"}


def ridge_r2(train: Tensor, target: Tensor, test: Tensor, truth: Tensor) -> float:
    """Returns the share of the variance of `truth`, (m,), that ridge regression on features explains.

    train, test: (n, D) and (m, D); target: (n,). The penalty is the best one for the last fifth of the training
    samples.
    """
    mean, deviation = train.mean(dim=0), train.std(dim=0).clamp(min=1e-6)
    x, y = (((features - mean) / deviation).double() for features in (train, test))
    fit = len(x) * 4 // 5
    penalty = max(PENALTIES, key=lambda p: _r2(x[:fit], target[:fit], x[fit:], target[fit:], p))
    return _r2(x, target, y, truth, penalty)


def _r2(x: Tensor, target: Tensor, y: Tensor, truth: Tensor, penalty: float) -> float:
    center, weight = target.mean(), penalty * len(x)
    if len(x) < x.shape[1]:  # the same solution, by the smaller of the two matrices
        dual = torch.linalg.solve(x @ x.T + weight * torch.eye(len(x), dtype=x.dtype), target - center)
        weights = x.T @ dual
    else:
        gram = x.T @ x + weight * torch.eye(x.shape[1], dtype=x.dtype)
        weights = torch.linalg.solve(gram, x.T @ (target - center))
    return 1 - float((y @ weights + center - truth).square().sum() / (truth - truth.mean()).square().sum())


def pitch_r2(run: RunFolder, file: Path, network: str) -> dict[str, dict[str, float]]:
    """Returns the share of the variance of the pitch, in octaves, that ridge regression on pictures explains: by the
    run's encoder, and by pixels. It is fitted on all training pairs, or on `FEW`: the mean of ten such fits."""
    compared = {"encoder": run.encoder(network), "pixels": pixels}
    train, test = open_source(file), open_source(file, "test")
    with np.load(file) as arrays:
        a, b = (torch.from_numpy(np.log2(pitch(arrays[name]))) for name in ("size", "test_size"))
    (of_train, _), (of_test, _) = (represent(compared, s, reads=train.image, device=CPU) for s in (train, test))
    few = [torch.arange(begin, begin + FEW) for begin in range(0, 10 * FEW, FEW)]
    return {
        name: {
            "few": round(sum(ridge_r2(x[i], a[i], of_test[name], b) for i in few) / len(few), 4),
            "all": round(ridge_r2(x, a, of_test[name], b), 4),
        }
        for name, x in of_train.items()
    }


@lru_cache(2)
def data(folder: Path, frames: int, cluttered: bool) -> tuple[Path, float]:
    """Returns the file of the pairs, and the largest possible recall at 1."""
    file = folder / f"{'cluttered' if cluttered else 'plain'}-{frames}.npz"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = dict(with_test(2000, 400, frames=frames, cluttered=cluttered))
        np.savez(file, **arrays)
    with np.load(file) as arrays:
        return file, bound(dict(arrays), "test_")


def result(arm: str, seed: int, shapes: Line, folder: Path) -> dict[str, Any]:
    """Trains and measures once. Returns a line. shapes: the fields of a line that identify the data and settings."""
    file, most = data(folder, shapes["frames"], shapes["shapes"] == "cluttered")
    one: Any = SMALLEST if shapes["encoder"] == "mlp" else shapes["encoder"]
    settings = {name: shapes[name] for name in ("epochs", "batch", "precision")} | {"seed": seed}
    of = f"{shapes['shapes']}-{shapes['encoder']}-{shapes['frames']}"
    run_folder, both = (
        folder / of / f"{arm.partition(',')[0]}-{seed}",
        {**settings, "encoder": dict.fromkeys(("image", "audio"), one)},
    )
    if arm == "untrained":
        run, seconds = untrained("cross_modal", file, run_folder, both), 0
    elif arm.startswith("simclr"):
        run, seconds = trained("simclr", file, run_folder, {**settings, "encoder": one})
    else:
        run, seconds = trained(arm, file, run_folder, both)
    alone = arm.startswith("simclr")
    pairs = {} if alone else {"pairs": pair_scores(run), "bound": round(most, 2)}
    r2 = pitch_r2(run, file, "student" if alone else "image")
    return {**_about(shapes, arm, seed), "core_seconds": seconds, **pairs, "r2": r2}


def _about(shapes: Line, arm: str, seed: int) -> Line:
    """Returns the fields of a line that identify its run."""
    return {"arm": arm, "seed": seed, **shapes}


def rendered(lines: Sequence[Line]) -> str:
    """Returns the tables of one kind of shapes: of pairs, and of the pitch."""
    by_arm = {arm: [line for line in lines if line["arm"] == arm] for arm in ARMS}
    with_pairs = [line for line in lines if "pairs" in line]
    cells = [["most that is possible", "", "", f"{line['bound']:.1f}", *[""] * 5] for line in with_pairs[:1]]
    cells += pair_rows(lines, ARMS, METRICS)
    pairs = table(["", "", "seeds", *METRICS, "AUROC"], cells, right=range(2, 9))
    return f"{pairs}\n\n{pitch_table(by_arm)}"


def pitch_table(by_arm: Mapping[str, Sequence[Line]]) -> str:
    """Returns the table of the pitch: R² by pixels and by each arm, and what it exceeds SimCLR's by."""
    control, cells = by_arm[ARMS[1]], []
    for arm, name in (("pixels", "pixels"), *((arm, "encoder") for arm in ARMS)):
        runs = by_arm[ARMS[0]][:1] if arm == "pixels" else by_arm[arm]
        row = [arm, "" if arm == "pixels" else str(len(runs))]
        for fit in ("few", "all"):
            base = {line["seed"]: line["r2"]["encoder"][fit] for line in control}
            values = {line["seed"]: line["r2"][name][fit] for line in runs}
            gain = Paired(tuple(100 * (value - base[seed]) for seed, value in values.items() if seed in base))
            row += [spread(list(values.values()), "{:.2f}"), "" if arm in ("pixels", ARMS[1]) else gain.cell]
        if runs:
            cells.append(row)
    head = ["the picture by", "seeds", f"R², fitted on {FEW}", "over SimCLR, in hundredths"]
    return table([*head, "R², fitted on 2,000", "over SimCLR, in hundredths"], cells, right=range(1, 6))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="where pairs and runs are kept")
    parser.add_argument("--shapes", action="append", choices=KINDS, help="only these")
    parser.add_argument("--arm", action="append", choices=ARMS, help="only this arm")
    parser.add_argument("--seed", type=int, action="append", help="only this seed")
    parser.add_argument("--frames", type=int, default=4, choices=(1, 4), help="frames of a picture, its channels")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument(
        "--encoder", default="conv", choices=("conv", "mlp"), help="of both signals; mlp is the fastest"
    )
    parser.add_argument("--render", action="store_true", help="only write the tables into docs/pairs.md")
    flags = parser.parse_args()
    done = lines_of(RESULTS)
    if not flags.render and flags.folder is None:
        parser.error("name a folder for pairs and runs")
    for kind in flags.shapes or KINDS:
        shapes = {name: getattr(flags, name) for name in ("frames", "epochs", "encoder")} | {"shapes": kind, **REST}
        about = partial(_about, shapes)
        for arm, seed in missing(done, [] if flags.render else flags.arm or ARMS, flags.seed or SEEDS, about):
            done.append(keep(result(arm, seed, shapes, flags.folder), RESULTS))
        if chosen := [line for line in done if shapes.items() <= line.items()]:
            text = rendered(chosen)
            render(f"{kind} shapes", text) if flags.render else print(f"\n{kind.capitalize()} shapes\n\n{text}")


if __name__ == "__main__":
    main()
