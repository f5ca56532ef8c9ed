import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import sanslabel
from sanslabel.evaluation.protocols.knn import KNN
from sanslabel.evaluation.protocols.linear import Linear
from sanslabel.report import report

METHODS = ("simclr", "vicreg", "vae", "ebgan", "npid")


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Short runs on digits by name: finished ones, one of them measured, and one that is under way."""
    folder = tmp_path_factory.mktemp("runs")
    options = {"epochs": 2, "encoder": {"name": "mlp", "hidden": [32, 16]}}
    made = {name: sanslabel.train("digits", method=name, out=folder / name, **options).path for name in METHODS}
    sanslabel.evaluate(made["simclr"], protocols=(KNN(draws=1), Linear(draws=1), "layers"))
    made["unfinished"] = sanslabel.train("digits", method="simclr", out=folder / "unfinished", **options).path
    for file in ("config.json", "encoder.safetensors"):
        (made["unfinished"] / file).unlink()
    content = json.loads((made["unfinished"] / "run.json").read_text())
    (made["unfinished"] / "run.json").write_text(json.dumps(content | {"epochs": 4}))
    with (made["unfinished"] / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1')
    return made


@pytest.fixture(scope="session")
def page(runs, tmp_path_factory) -> Callable[..., Path]:
    """The page about runs by their names, with few points. Each is made once."""
    folder = tmp_path_factory.mktemp("pages")

    @cache
    def made(*names: str) -> Path:
        paths = [runs[name] for name in names]
        return report(*paths, out=folder / f"{'-'.join(names)}.html", points=max(40, 20 * len(names)))

    return made
