"""Accuracy of a linear probe on each stage of an encoder: python -m bench.layers

Trains PIRL, jigsaw, rotation, SimCLR and the supervised reference as `bench.learns` does, on 10,000 images of
Fashion-MNIST. Fits a linear probe to each stage of each encoder, and of the random one that SimCLR starts from, and
measures it on the 10,000 test images. A stage is chosen by its accuracy on held-out training images. Writes a line for
each finished run, which a later call skips, and renders docs/layers.md from them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import sanslabel
from bench.learning_page import spread
from bench.learning_tasks import CPU, SEEDS, Task, settings
from bench.learns import ROOT, start_run, subset
from bench.machine import commit
from bench.markdown import table

METHODS = ("pirl", "simclr", "jigsaw", "rotation", "supervised", "random")
COLORS = {
    "pirl": "tab:blue",
    "simclr": "tab:cyan",
    "jigsaw": "tab:red",
    "rotation": "tab:orange",
    "supervised": "tab:green",
    "random": "tab:gray",
}
RESULTS = ROOT / "bench" / "results" / "layers.jsonl"
TEMPLATE = ROOT / "bench" / "layers.template.md"

Result = dict[str, Any]


def result_of(method: str, seed: int, data: str) -> Result:
    """Returns the accuracy of each stage of an encoder, on test images and on held-out training images."""
    with TemporaryDirectory() as folder:
        out, start = Path(folder) / "run", Task("simclr", seed, "start", CPU.encoder_of("simclr"))
        run = (
            start_run(out, start, CPU, data, "cpu")
            if method == "random"
            else sanslabel.train(data, method=method, seed=seed, epochs=CPU.epochs_of(method), out=out, device="cpu")
        )
        scores = sanslabel.evaluate(run.path, protocols=("layers",), baselines=False, seed=seed, device="cpu")
    return {
        **about(method, seed),
        "commit": commit(),
        "stages": [round(score.value, 2) for score in scores],
        "held_out": [round(score.settings["held_out_accuracy"], 2) for score in scores],
    }


def about(method: str, seed: int) -> Result:
    """Returns the fields of a line that identify the measurement."""
    digest = settings("simclr", CPU, state="start") if method == "random" else settings(method, CPU)
    return {"method": method, "seed": seed, "settings": digest}


def page(results: list[Result]) -> str:
    """Returns the text of docs/layers.md."""
    stages = range(1, len(results[0]["stages"]) + 1)
    head = [
        "encoder",
        "seeds",
        *(f"stage {i}" for i in stages),
        "last less the one before",
        "chosen stage",
        "last less chosen",
    ]
    return TEMPLATE.read_text().replace("{table}", table(head, [cells(results, name) for name in COLORS]))


def cells(results: list[Result], name: str) -> list[str]:
    """Returns the cells of an encoder: the accuracy of its stages, and of the stage that is the most accurate on
    held-out training images."""
    seeds = lines_of(results, name)
    by_stage = [spread(list(column)) for column in zip(*(seed["stages"] for seed in seeds), strict=True)]
    steps = [seed["stages"][-1] - seed["stages"][-2] for seed in seeds]
    known = all("held_out" in seed for seed in seeds)
    chosen = [seed["held_out"].index(max(seed["held_out"])) for seed in seeds] if known else []
    falls = [seed["stages"][-1] - seed["stages"][stage] for seed, stage in zip(seeds, chosen, strict=known)]
    names = ", ".join(str(stage + 1) for stage in sorted(set(chosen)))
    return [name, str(len(seeds)), *by_stage, spread(steps), names or "not measured", spread(falls) or "not measured"]


def lines_of(results: list[Result], name: str) -> list[Result]:
    """Returns the lines of an encoder. Those of earlier versions do not have the accuracy on held-out training images,
    and count only if there are no others."""
    lines = [result for result in results if result["method"] == name]
    return [line for line in lines if "held_out" in line] or lines


def render(results: list[Result], docs: Path) -> None:
    """Writes layers.md and layers.png into the folder `docs`."""
    (docs / "layers.md").write_text(page(results))
    plot({name: [line["stages"] for line in lines_of(results, name)] for name in COLORS}, docs / "layers.png")


def plot(accuracies: dict[str, list[list[float]]], path: Path) -> None:
    """Draws a curve for each encoder, the mean over seeds, and a band from the lowest to the highest."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, seeds in accuracies.items():
        columns = list(zip(*seeds, strict=True))
        x, style = range(1, len(columns) + 1), "--" if name in {"random", "supervised"} else "-"
        axes.plot(x, [fmean(c) for c in columns], "o", linestyle=style, color=COLORS[name], label=name)
        axes.fill_between(x, [min(c) for c in columns], [max(c) for c in columns], color=COLORS[name], alpha=0.2)
    axes.set(xlabel="stage", ylabel="linear accuracy, %", xticks=list(x))
    axes.legend(ncols=2)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=METHODS, metavar="METHOD")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--render", action="store_true", help="only write docs/layers.md")
    flags = parser.parse_args()
    results = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    with TemporaryDirectory() as folder:
        data = None
        for seed in [] if flags.render else flags.seeds:
            for method in flags.methods:
                if any(about(method, seed).items() <= line.items() and "held_out" in line for line in results):
                    continue
                data = data or subset(Path(folder), CPU)
                result = result_of(method, seed, data)
                results = [line for line in results if (line["method"], line["seed"]) != (method, seed)] + [result]
                RESULTS.write_text("".join(json.dumps(line) + "\n" for line in results))
                print(result, flush=True)
    render(results, ROOT / "docs")


if __name__ == "__main__":
    main()
