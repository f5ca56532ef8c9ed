"""Accuracy of a linear probe on each stage of an encoder: python -m bench.layers

Trains PIRL, jigsaw, rotation, SimCLR and the supervised reference as `bench.learns` does, on 10,000 images of
Fashion-MNIST. Fits a linear probe to each stage of each encoder and of a random one, and measures it on the 10,000 test
images. Writes a line for each finished run, which a later call skips, and renders docs/layers.md from them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import sanslabel
from bench.learns import CPU, ROOT, SEEDS, settings, spread, subset

METHODS = ("pirl", "simclr", "jigsaw", "rotation", "supervised")
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


def results_of(method: str, seed: int, data: str) -> list[Result]:
    """Returns the accuracy of each stage of a trained encoder. With SimCLR's, a random encoder is measured, too."""
    epochs = CPU.special.get(method, CPU.epochs)
    with TemporaryDirectory() as folder:
        run = sanslabel.train(data, method=method, seed=seed, epochs=epochs, out=Path(folder) / "run", device="cpu")
        scores = sanslabel.evaluate(
            run.path, protocols=("layers",), baselines=method == "simclr", seed=seed, device="cpu"
        )
    stages: dict[str, list[float]] = {}
    for score in scores:
        name = "random" if score.representation.startswith("random") else method
        stages.setdefault(name, []).append(round(score.value, 2))
    return [
        {"method": name, "seed": seed, "settings": settings(method, CPU), "stages": s} for name, s in stages.items()
    ]


def render(results: list[Result], docs: Path) -> None:
    """Writes layers.md and layers.png into the folder `docs`."""
    accuracies = {name: [r["stages"] for r in results if r["method"] == name] for name in COLORS}
    stages = range(1, len(next(iter(accuracies.values()))[0]) + 1)
    lines = ["| encoder | " + " | ".join(f"stage {i}" for i in stages) + " | last less best |"]
    lines.append("|---" * (len(stages) + 2) + "|")
    for name, seeds in accuracies.items():
        fall = [s[-1] - max(s) for s in seeds]
        cells = [spread(list(column)) for column in zip(*seeds, strict=True)]
        lines.append(f"| {name} | " + " | ".join([*cells, spread(fall)]) + " |")
    (docs / "layers.md").write_text(TEMPLATE.read_text().replace("{table}", "\n".join(lines)))
    plot(accuracies, docs / "layers.png")


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
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--render", action="store_true", help="only write docs/layers.md")
    flags = parser.parse_args()
    results = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    with TemporaryDirectory() as folder:
        data = None
        for seed in [] if flags.render else flags.seeds:
            for method in METHODS:
                run = {"method": method, "seed": seed, "settings": settings(method, CPU)}
                if any(run.items() <= finished.items() for finished in results):
                    continue
                data = data or subset(Path(folder), CPU.samples)
                measured = results_of(method, seed, data)
                with RESULTS.open("a") as file:
                    file.writelines(json.dumps(result) + "\n" for result in measured)
                print(measured, flush=True)
                results += measured
    render(results, ROOT / "docs")


if __name__ == "__main__":
    main()
