"""Accuracy on Fashion-MNIST over seeds, for the tables: python -m bench.accuracy RESULTS.jsonl

Trains each method on the 60,000 training images without labels, as `sanslabel train METHOD --data fashion-mnist
--epochs 6 --seed S` does, and evaluates on the 10,000 test images as it does. A line for each finished run; what is
already there is not run again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

import sanslabel


def result(method: str, seed: int, epochs: int, data: str) -> dict:
    with TemporaryDirectory() as folder:
        run = sanslabel.train(data, method=method, seed=seed, epochs=epochs, out=Path(folder) / "run")
        scores = sanslabel.evaluate(run.path, baselines=seed == 0)
    rows = {}
    for score in scores:
        name = score.protocol + (f", {score.labels_per_class} a class" if score.labels_per_class else "")
        rows.setdefault(score.representation, {})[name] = round(score.value, 2)
    return {"method": method, "data": data, "epochs": epochs, "seed": seed, "seconds": round(run.seconds), **rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--methods", nargs="+", default=["simclr", "vicreg", "supervised"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--data", default="fashion-mnist")
    flags = parser.parse_args()
    done = [json.loads(line) for line in flags.results.read_text().splitlines()] if flags.results.exists() else []
    for seed in flags.seeds:
        for method in flags.methods:
            asked = {"method": method, "data": flags.data, "epochs": flags.epochs, "seed": seed}
            if any(asked.items() <= row.items() for row in done):
                continue
            done.append(result(method, seed, flags.epochs, flags.data))
            with flags.results.open("a") as file:
                file.write(json.dumps(done[-1]) + "\n")
            print(done[-1], flush=True)
    for method in flags.methods:
        rows = [r["trained encoder (student)"] for r in done if r["method"] == method and r["data"] == flags.data]
        for protocol in rows[0]:
            values = [row[protocol] for row in rows]
            print(f"{method:<12}{protocol:<22}{values} mean {mean(values):.2f}")


if __name__ == "__main__":
    main()
