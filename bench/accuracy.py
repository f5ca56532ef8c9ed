"""Accuracy on Fashion-MNIST over seeds, for the tables: python -m bench.accuracy RESULTS.jsonl

Trains each method on the 60,000 training images without labels, as `sanslabel train METHOD --data fashion-mnist
--epochs 6 --seed S` does, and evaluates it on the 10,000 test images. Each finished run is a line of RESULTS.jsonl, and
is not run again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import sanslabel


def result(method: str, seed: int, epochs: int, data: str) -> dict[str, Any]:
    """Returns the accuracies of one run, by representation and protocol, and its settings."""
    with TemporaryDirectory() as folder:
        run = sanslabel.train(data, method=method, seed=seed, epochs=epochs, out=Path(folder) / "run")
        scores = sanslabel.evaluate(run.path, baselines=seed == 0)
    accuracies: dict[str, dict[str, float]] = {}
    for score in scores:
        name = score.protocol + (f", {score.labels_per_class} a class" if score.labels_per_class else "")
        accuracies.setdefault(score.representation, {})[name] = round(score.value, 2)
    seconds = round(run.seconds)
    return {"method": method, "data": data, "epochs": epochs, "seed": seed, "seconds": seconds, **accuracies}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--methods", nargs="+", default=["simclr", "vicreg", "supervised"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--data", default="fashion-mnist")
    flags = parser.parse_args()
    results = [json.loads(line) for line in flags.results.read_text().splitlines()] if flags.results.exists() else []
    for seed in flags.seeds:
        for method in flags.methods:
            settings = {"method": method, "data": flags.data, "epochs": flags.epochs, "seed": seed}
            if any(settings.items() <= finished.items() for finished in results):
                continue
            results.append(result(method, seed, flags.epochs, flags.data))
            with flags.results.open("a") as file:
                file.write(json.dumps(results[-1]) + "\n")
            print(results[-1], flush=True)
    for method in flags.methods:
        runs = [r["trained encoder (student)"] for r in results if r["method"] == method and r["data"] == flags.data]
        for protocol in runs[0]:
            values = [run[protocol] for run in runs]
            print(f"{method:<12}{protocol:<22}{values} mean {mean(values):.2f}")


if __name__ == "__main__":
    main()
