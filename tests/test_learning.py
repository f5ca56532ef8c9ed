"""The gates that train: what the project claims of its learning, on the data that it ships and on Debian's.

Minutes each on two cores, one after the other; run with -m learning -n 0. Thresholds are those that the README states.
"""

import json
import subprocess
import sys

import pytest
import torch

import sanslabel
from sanslabel.device import cores
from sanslabel.evaluation.protocols.knn import KNN
from sanslabel.evaluation.protocols.linear import Linear

pytestmark = [pytest.mark.learning, pytest.mark.timeout(1500)]


def scores(tmp_path, *arguments: str) -> dict[str, dict[str, float]]:
    """Representation -> protocol -> accuracy in %, of a run of the command as a person types it."""
    out = tmp_path / "run"
    subprocess.run([sys.executable, "-m", "sanslabel", "train", *arguments, "--out", str(out)], check=True)
    (file,) = (out / "evaluation").iterdir()
    found: dict[str, dict[str, float]] = {}
    for score in json.loads(file.read_text())["scores"]:
        if score["labels_per_class"] is None:
            found.setdefault(score["representation"].split()[0], {})[score["protocol"]] = score["value"]
    print(found)
    return found


def test_the_bare_command_beats_pixels_and_the_random_encoder(tmp_path):
    found = scores(tmp_path)
    trained, pixels, random = found["trained"], found["pixels"], found["random"]
    assert trained["linear"] >= random["linear"] + 4
    assert trained["knn"] >= random["knn"] + 7
    assert trained["linear"] >= pixels["linear"] + 1
    assert trained["knn"] >= pixels["knn"] + 2


@pytest.mark.parametrize(("method", "epochs", "linear"), [("moco", 8, 2), ("rotation", 4, 3), ("vicreg", 10, 4)])
def test_a_method_of_another_kind_is_ahead_of_the_random_encoder(tmp_path, method, epochs, linear):
    """By so many points, in two minutes each; docs/learning.md has every method, for longer and with three seeds."""
    found = scores(tmp_path, method, "--epochs", str(epochs))
    assert found["trained"]["linear"] >= found["random"]["linear"] + linear


def test_classes_come_apart_in_the_codes_of_a_vae(tmp_path):
    found = scores(tmp_path, "vae")
    assert found["trained"]["knn"] >= found["pixels"]["knn"] + 2
    assert found["trained"]["knn"] >= found["random"]["knn"] + 5


@pytest.fixture
def all_cores():
    before = torch.get_num_threads()
    torch.set_num_threads(cores())
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("all_cores")
def test_fashion_mnist_without_labels(tmp_path):
    """Beside nothing else: pixels and the random encoder of all 60,000 images take longer than an epoch."""
    train = [sys.executable, "-m", "sanslabel", "train", "simclr", "--data", "fashion-mnist", "--epochs", "6"]
    subprocess.run([*train, "--no-evaluate", "--out", str(tmp_path / "run")], check=True)
    protocols = (KNN(draws=1), Linear(draws=1))
    scores = sanslabel.evaluate(tmp_path / "run", protocols=protocols, baselines=False)
    trained = {score.protocol: score.value for score in scores if score.labels_per_class is None}
    print(trained)
    assert trained["linear"] >= 88.0
    assert trained["knn"] >= 86.0
