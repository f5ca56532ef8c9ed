import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sanslabel
from sanslabel.evaluation.protocols.knn import KNN
from sanslabel.evaluation.protocols.linear import Linear
from sanslabel.report import report

MARKUP = "<script>alert(1)<_script>"
"""a name of a folder and of files that would be markup"""
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


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Two classes of ten pictures each, in a folder that all names begin with."""
    root = tmp_path_factory.mktemp("photos")
    for i in range(20):
        path = root / "share" / "stamps" / ("birds" if i % 2 else MARKUP) / f"{MARKUP} #{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (60, 300, 3), dtype=np.uint8)
        pixels[:, :16] = (255, 0, 0)  # the end of each picture
        Image.fromarray(pixels).save(path)
    return root / "share"


@pytest.fixture(scope="session")
def labeled(folder, tmp_path_factory):
    """The page of a run on the classes, which are the sub-folders."""
    path = tmp_path_factory.mktemp("labeled")
    options = {"image_size": 16, "encoder": {"name": "mlp", "hidden": [8]}, "batch": 10, "epochs": 5, "workers": 0}
    run = sanslabel.train(folder / "stamps", out=path / "run", **options)
    return report(run.path, out=path / "pages" / "page.html")
