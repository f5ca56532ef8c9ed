"""Measures what two encoders find in bouncing shapes with sound: python -m bench.shapes_with_sound FOLDER

Trains `cross_modal` and `avid` on the shapes of bench/bouncing.py, and SimCLR on their pictures alone. Prints the
recall of partners beside its bound. Then it predicts the pitch of a sound from its picture, by ridge regression on
features of the picture alone: a method of both signals must know the pitch, and one of pictures need not. Runs that
FOLDER has are not trained again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import sanslabel
from bench.bouncing import bound, pitch, with_test
from bench.markdown import table
from sanslabel.encoders import Encoder
from sanslabel.evaluation import pixels, represent
from sanslabel.evaluation.representation import Representation
from sanslabel.evaluation.subjects import random_encoder
from sanslabel.run_folder import RunFolder
from sanslabel.scores import Score
from sanslabel.sources import open_source

CPU = torch.device("cpu")
SMALLEST = {"name": "mlp", "hidden": [512, 256]}
"""the encoder `mlp` of both signals"""
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""weights of the ridge, as shares of the number of samples"""
METRICS = ("recall at 1", "recall at 5", "recall at 10", "median rank", "precision at 1", "AUROC")


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
    center = target.mean()
    gram = x.T @ x + penalty * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
    weights = torch.linalg.solve(gram, x.T @ (target - center))
    return 1 - float((y @ weights + center - truth).square().sum() / (truth - truth.mean()).square().sum())


def trained(method: str, file: Path, folder: Path, settings: dict[str, Any]) -> RunFolder:
    """Returns the run of a method, which is trained unless it is there."""
    if (folder / "config.json").exists():
        return RunFolder.open(folder)
    return sanslabel.train(file, method=method, out=folder, device="cpu", **settings)


def cells(method: str, scores: list[Score]) -> list[list[str]]:
    """Returns a line of the table for each row of the protocol's."""
    lines = []
    for row in dict.fromkeys(score.representation for score in scores):
        values = {score.metric: score for score in scores if score.representation == row}
        texts = [f"{values[metric].value:.1f}" if metric in values else "" for metric in METRICS]
        for gain in (gain for score in values.values() for gain in score.gains):
            texts[-1] += f" ({50 + gain.low:.1f} to {50 + gain.high:.1f})"
        lines.append([row if row == "chance" else f"{method}, {row}", *texts])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.shapes_with_sound", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, default=4, choices=(1, 4), help="frames of a picture, its channels")
    parser.add_argument("--train", type=int, default=2000)
    parser.add_argument("--test", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--encoder", default="conv", help="of both signals; mlp is the fastest")
    chosen = parser.parse_args()
    folder = chosen.folder / f"{chosen.encoder}-{chosen.frames}-{chosen.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = dict(with_test(chosen.train, chosen.test, frames=chosen.frames))
    file = folder.parent / f"{folder.name}.npz"
    np.savez(file, **arrays)
    train, test = open_source(file), open_source(file, "test")
    encoder = SMALLEST if chosen.encoder == "mlp" else chosen.encoder
    settings = {name: getattr(chosen, name) for name in ("epochs", "batch", "seed", "precision")}
    compared: dict[str, Representation] = {"pixels": pixels}
    lines: list[list[str]] = []
    for method in ("simclr", "cross_modal", "avid"):
        both = {"image": encoder, "audio": encoder}
        run = trained(method, file, folder / method, {**settings, "encoder": encoder if method == "simclr" else both})
        of_pictures: Encoder = run.encoder()
        compared[method] = of_pictures
        if method == "simclr":
            options: Any = {"reads": train.image, "device": CPU, "dtype": torch.float32, "workers": 0}
            compared["random encoder"] = random_encoder(of_pictures.config, train, chosen.seed, options)
        else:
            lines += cells(method, list(sanslabel.evaluate(run.path, protocols="pairs", baselines=False)))
    print(f"Recall at 1 is at most {bound(arrays, 'test_'):.1f} %.\n")
    print(table(("", *METRICS), {line[0]: line for line in lines}.values(), right=range(1, 1 + len(METRICS))))
    octaves = [torch.from_numpy(np.log2(pitch(arrays[name]))) for name in ("size", "test_size")]
    (of_train, _), (of_test, _) = (
        represent(compared, source, reads=train.image, device=CPU) for source in (train, test)
    )
    r2 = [(name, f"{ridge_r2(of_train[name], octaves[0], of_test[name], octaves[1]):.3f}") for name in compared]
    print("\n" + table(("the picture by", "R² of the pitch"), r2, right=(1,)))


if __name__ == "__main__":
    main()
