"""Settings of small recipes that were chosen with test figures in view, chosen anew: python -m bench.tuning

Trains a method with its small recipe, and with one setting at a time changed, on 8,000 images of Fashion-MNIST without
labels. Measures each on 2,000 other training images; no test image is read. Writes a line for each finished run, which
a later call skips. docs/learning.md has the table, which `python -m bench.learns --render` writes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sanslabel
from bench.learning_page import tuning_table
from bench.learning_tasks import CPU
from bench.learns import RESULTS, scores_of, subset
from bench.machine import commit
from sanslabel import methods, views

FILE = RESULTS / "tuning.jsonl"
SETTING = CPU.without_test()
RECIPE = "small recipe"
CROPS = views.SIMCLR
CHANGES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "simclr": {
        RECIPE: {},
        "temperature 0.1": {"temperature": 0.1},
        "temperature 0.5": {"temperature": 0.5},
        "crops from 0.08": {"view": replace(CROPS, crop=(0.08, 1.0))},
        "crops from 0.3": {"view": replace(CROPS, crop=(0.3, 1.0))},
    },
    "swav": {
        RECIPE: {},
        "crops of the paper, two local ones": {"view": replace(views.SWAV, local_crops=2)},
        "global crops from 0.4": {"view": replace(views.EASY, global_crop=replace(CROPS, crop=(0.4, 1.0)))},
        "local crops from 0.2 to 0.5": {"view": replace(views.EASY, local_crop=replace(CROPS, crop=(0.2, 0.5)))},
    },
}
"""hyperparameters that a change sets, by its words and by the method"""


def result_of(method: str, change: str, seed: int, data: str) -> dict[str, Any]:
    """Returns the accuracies in % of the student of one training, on held-out training images."""
    kind = methods.method_class(method)
    instance = kind(**{**kind.small.hyperparameters, **CHANGES[method][change]})
    with TemporaryDirectory() as folder:
        out, epochs = Path(folder) / "run", SETTING.epochs_of(method)
        run = sanslabel.train(data, method=instance, recipe=kind.small, seed=seed, epochs=epochs, device="cpu", out=out)
        scores = scores_of(run, "student", "cpu")["student"]
    return {"method": method, "change": change, "seed": seed, "commit": commit(), "scores": scores}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=list(CHANGES), metavar="METHOD")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    flags = parser.parse_args()
    lines = [json.loads(line) for line in FILE.read_text().splitlines()] if FILE.exists() else []
    done = {(line["method"], line["change"], line["seed"]) for line in lines}
    todo = [(m, change, seed) for seed in flags.seeds for m in flags.methods for change in CHANGES[m]]
    with TemporaryDirectory() as folder:
        data = subset(Path(folder), SETTING)
        for method, change, seed in todo:
            if (method, change, seed) not in done:
                lines.append(result_of(method, change, seed, data))
                with FILE.open("a") as file:
                    file.write(json.dumps(lines[-1]) + "\n")
                print(lines[-1], flush=True)
    print(tuning_table(lines))


if __name__ == "__main__":
    main()
