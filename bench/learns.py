"""Measures how well every method learns: python -m bench.learns [METHOD …]

Trains each method on 10,000 images of Fashion-MNIST without labels, for a fixed number of epochs that takes at most
three minutes on two cores (token methods five, data2vec and I-JEPA ten), and evaluates the encoder of the last step:
probes are fitted on the same 10,000 images with labels and measured on the 10,000 test images. Writes one line per
finished run, which a later call skips, and renders docs/learning.md from them. With --device cuda it is the longer
recipe: all 60,000 images, 100 epochs and larger encoders, rendered as a table of its own that names the device.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import numpy as np
import torch

import sanslabel
from sanslabel import encoders, methods
from sanslabel.evaluation import pixels, represent, scores_of_features, settle_
from sanslabel.evaluation.features import Division, Features
from sanslabel.evaluation.protocols.knn import KNN
from sanslabel.evaluation.protocols.linear import Linear
from sanslabel.randomness import fold, permutation
from sanslabel.serialization import to_plain
from sanslabel.sources import Request, open_source

ROOT = Path(__file__).parents[1]
SEEDS = (0, 1, 2)
BASELINES = ("pixels", "random")
ONE_DRAW = (KNN(draws=1), Linear(draws=1))


@dataclass(frozen=True)
class Setting:
    """One of the two tables: how much data, and how long."""

    title: str
    samples: int
    encoder: str | None
    """in place of the recipe's `conv`; None leaves that"""
    transformer: str
    """in place of the recipe's `vit_micro`"""
    epochs: int
    """epochs of methods that `special` does not name"""
    special: dict[str, int] = field(default_factory=dict)

    def encoder_of(self, method: str) -> str:
        of_recipe = str(encoders.encoder_options(methods.method_class(method).small.encoder)["name"])
        if of_recipe not in {"conv", "vit_micro"}:
            return of_recipe  # a discriminator, or the layers that a decoder mirrors
        return self.transformer if of_recipe.startswith("vit") else self.encoder or of_recipe


CPU = Setting(
    "Two cores, minutes",
    10_000,
    None,
    "vit_micro",
    epochs=10,
    special={
        "mae": 20,
        "data2vec": 10,
        "ijepa": 10,
        "rotation": 6,
        "jigsaw": 16,
        "relative_position": 16,
        "cpc": 4,
        "dino": 9,
        "autoencoder": 60,
        "dae": 60,
        "vae": 60,
        "ebgan": 20,
        "dcgan": 20,
    },
)
CUDA = Setting("One GPU, longer", 60_000, "resnet18", "vit_tiny", epochs=100)


def result(method: str, seed: int, setting: Setting, data: str, device: str, threads: int) -> dict[str, Any]:
    """Trains and evaluates once. Returns a line with the cost and the accuracies in %."""
    torch.set_num_threads(threads)
    about = {"method": method, "seed": seed, "device": device_name(device), "settings": settings(method, setting)}
    if method in BASELINES:
        return {**about, "scores": baseline(method, seed, setting, data, device)}
    epochs, encoder = setting.special.get(method, setting.epochs), setting.encoder_of(method)
    recipes = encoders.encoder_options(methods.method_class(method).small.encoder)
    built = recipes if recipes["name"] == encoder else encoder  # with the recipe's options
    with TemporaryDirectory() as folder:
        began = process_time()
        run = sanslabel.train(
            data, method=method, seed=seed, epochs=epochs, encoder=built, device=device, out=Path(folder) / "run"
        )
        core_seconds = process_time() - began
        lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
        networks = json.loads((run.path / "config.json").read_text())["networks"]
        measured: dict[str, dict[str, float]] = {}
        for network in networks:
            results = sanslabel.evaluate(run.path, protocols=ONE_DRAW, network=network, baselines=False, device=device)
            measured |= accuracies(results)
    pretext_accuracy = (
        fmean(line["accuracy"] for line in lines[-10:]) if method != "supervised" and "accuracy" in lines[-1] else None
    )
    return {
        **about,
        "encoder": encoder,
        "steps": lines[-1]["step"],
        "batch": run.plan.batch,
        "seconds": round(run.seconds),
        "core_seconds": round(core_seconds),
        "threads": threads,
        "effective_rank": lines[-1].get("effective_rank"),
        "own_accuracy": None if pretext_accuracy is None else round(100 * pretext_accuracy, 2),
        "scores": measured,
    }


def baseline(name: str, seed: int, setting: Setting, data: str, device: str) -> dict[str, dict[str, float]]:
    """Returns accuracies in % of raw pixels, or of the table's encoders with random weights and settled BatchNorm
    statistics."""
    train, test = open_source(data, "train"), open_source(data, "test")
    where = torch.device(device)
    compared: dict[str, Any] = {"pixels": pixels} if name == "pixels" else {}
    if name == "random":
        for kind, options in {setting.encoder or "conv": {}, setting.transformer: {"pool": "mean"}}.items():
            torch.manual_seed(fold(seed, 4))
            scaling = train.standardization()
            encoder = encoders.build(kind, channels=1, image_size=28, scaling=scaling, **options).to(where).eval()
            settle_(encoder, train, reads=train.image, device=where)
            compared[kind] = encoder
    on_train, index = represent(compared, train, reads=train.image, device=where)
    on_test, _ = represent(compared, test, reads=test.image, device=where)
    features = {key: Features(on_train[key], on_test[key]) for key in compared}
    home = next(iter(on_train.values())).device
    division = Division(train.labels[index].to(home), test.labels.to(home), len(train.classes), "test split")
    return accuracies(scores_of_features(features, division, protocols=ONE_DRAW, seed=seed))


def accuracies(measured: list[Any]) -> dict[str, dict[str, float]]:
    """Returns accuracies with all labels: representation -> protocol -> accuracy."""
    by_representation: dict[str, dict[str, float]] = {}
    for score in measured:
        if score.labels_per_class is None:
            name = score.representation.removeprefix("trained encoder (").replace(")", "")
            by_representation.setdefault(name, {})[score.protocol] = round(score.value, 2)
    return by_representation


def settings(method: str, setting: Setting) -> str:
    """Returns a digest of all settings of a run; lines with another digest are of other runs."""
    if method in BASELINES:
        return f"{setting.samples}"
    chosen = methods.method_class(method)
    values = [
        to_plain(chosen.under(chosen.small)),
        to_plain(chosen.small),
        setting.encoder_of(method),
        setting.samples,
    ]
    epochs = setting.special.get(method, setting.epochs)
    return sha256(json.dumps([*values, epochs], sort_keys=True).encode()).hexdigest()[:12]


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device.startswith("cuda") else "cpu"


def subset(folder: Path, samples: int) -> str:
    """Returns a file with so many training images of Fashion-MNIST, the same for all seeds, and all test images."""
    train, test = open_source("fashion-mnist", "train"), open_source("fashion-mnist", "test")
    index = permutation(0, len(train))[:samples].sort().values
    splits = {"": train.subset(index), "test_": test}
    arrays = {}
    for prefix, source in splits.items():
        arrays[f"{prefix}images"] = source.load(Request(torch.arange(len(source)))).images.pixels.numpy()[:, 0]
        arrays[f"{prefix}labels"] = source.labels.numpy()
    np.savez(folder / "images.npz", **arrays)
    return str(folder / "images.npz")


def missing(chosen: list[str], seeds: list[int], setting: Setting, device: str, done: list[dict]) -> Iterator[tuple]:
    """Yields the runs that have no line yet, one seed of all methods before the next."""
    for seed in seeds:
        for method in chosen:
            wanted = {"method": method, "seed": seed, "device": device_name(device)}
            wanted["settings"] = settings(method, setting)
            if not any(wanted.items() <= line.items() for line in done):
                yield method, seed


def rendered(results: list[dict[str, Any]]) -> str:
    """Returns the text of docs/learning.md."""
    text = (ROOT / "bench" / "learning.head.md").read_text()
    for device in sorted({line["device"] for line in results}, key=lambda name: name != "cpu"):
        setting = CPU if device == "cpu" else CUDA
        mine = [r for r in results if r["device"] == device and r["settings"] == settings(r["method"], setting)]
        title = setting.title if device == "cpu" else f"{setting.title}, {device}"
        text += f"\n## {title}: {setting.samples:,} images\n\n"
        took = "core seconds" if device == "cpu" else "seconds"
        text += f"| family | method | encoder | reading | steps | {took} | kNN | linear | own task |\n"
        text += "|---|---|---|---|---|---|---|---|---|\n"
        for family, method in sorted({(family_of(row["method"]), row["method"]) for row in mine}, key=place):
            for cells in lines_of([row for row in mine if row["method"] == method]):
                text += f"| {family} | {method} | " + " | ".join(cells) + " |\n"
                family = method = ""
    return text


def family_of(method: str) -> str:
    return "baseline" if method in BASELINES else methods.method_class(method).family


def place(family_and_method: tuple[str, str]) -> tuple[int, str, str]:
    """Returns the sorting key of a method in the table: baselines and the supervised reference come first."""
    family, method = family_and_method
    return (["baseline", "supervised"].index(family) if family in {"baseline", "supervised"} else 2), family, method


def lines_of(runs: list[dict[str, Any]]) -> Iterator[list[str]]:
    """Yields the cells of each representation in the runs of one method."""
    first = runs[0]
    for representation in first["scores"]:
        of = [run["scores"][representation] for run in runs]
        pretext = [run["own_accuracy"] for run in runs if run.get("own_accuracy") is not None]
        took = "core_seconds" if first["device"] == "cpu" else "seconds"
        seconds = f"{fmean(run[took] for run in runs):.0f}" if took in first else ""
        accuracy = [spread([s[protocol] for s in of]) for protocol in ("knn", "linear")]
        yield [
            first.get("encoder", ""),
            representation,
            str(first.get("steps", "")),
            seconds,
            *accuracy,
            spread(pretext),
        ]


def spread(values: list[float], form: str = "{:.1f}") -> str:
    """Returns mean ± deviation over seeds; empty without values."""
    if not values:
        return ""
    return form.format(fmean(values)) + (f" ± {form.format(stdev(values))}" if len(values) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=[*BASELINES, *methods.names()], metavar="METHOD")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, which share the cores")
    parser.add_argument("--threads", type=int, help="of a run; by default the cores, divided by the jobs")
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results" / "learning.jsonl")
    parser.add_argument("--render", action="store_true", help="only write docs/learning.md")
    flags = parser.parse_args()
    setting = CUDA if flags.device.startswith("cuda") else CPU
    done = [json.loads(line) for line in flags.results.read_text().splitlines()] if flags.results.exists() else []
    todo = [] if flags.render else list(missing(flags.methods, flags.seeds, setting, flags.device, done))
    threads = flags.threads or max(1, (os.cpu_count() or 1) // flags.jobs)
    with TemporaryDirectory() as folder, ProcessPoolExecutor(flags.jobs, mp_context=get_context("spawn")) as pool:
        one = partial(result, setting=setting, device=flags.device, threads=threads)
        data = subset(Path(folder), setting.samples) if todo else ""
        runs = {pool.submit(one, method, seed, data=data): (method, seed) for method, seed in todo}
        for finished in as_completed(runs):
            if (error := finished.exception()) is not None:  # the other runs go on
                print(*runs[finished], repr(error), flush=True)
                continue
            done.append(finished.result())
            with flags.results.open("a") as file:
                file.write(json.dumps(done[-1]) + "\n")
            print(json.dumps(done[-1]), flush=True)
    (ROOT / "docs" / "learning.md").write_text(rendered(done))


if __name__ == "__main__":
    main()
