import json

import pytest

import sanslabel
from sanslabel.evaluation.protocols.knn import KNN
from sanslabel.evaluation.protocols.linear import Linear


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Short runs on digits by name: finished ones, one of them measured, and one that is under way."""
    folder = tmp_path_factory.mktemp("runs")
    made = {}
    for name, method in {
        "simclr": "simclr",
        "vicreg": "vicreg",
        "vae": "vae",
        "ebgan": "ebgan",
        "npid": "npid",
    }.items():
        made[name] = sanslabel.train("digits", method=method, epochs=2, out=folder / name).path
    sanslabel.evaluate(made["simclr"], protocols=(KNN(draws=1), Linear(draws=1), "layers"))
    made["unfinished"] = sanslabel.train("digits", method="simclr", epochs=2, out=folder / "unfinished").path
    for file in ("config.json", "encoder.safetensors"):
        (made["unfinished"] / file).unlink()
    said = json.loads((made["unfinished"] / "run.json").read_text())
    (made["unfinished"] / "run.json").write_text(json.dumps(said | {"epochs": 4}))
    with (made["unfinished"] / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1')
    return made
