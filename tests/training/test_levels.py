"""A run keeps the levels that its pictures were scaled to, and reads all other pictures at them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import sanslabel
from sanslabel import checkpoint
from sanslabel.evaluation.labeled_split import open_for
from sanslabel.run_folder import RunFolder
from sanslabel.sources import Request

RANDOM = np.random.default_rng(0)


def folder_of(root, high):
    root.mkdir()
    for row in range(8):
        Image.fromarray(RANDOM.integers(100, high, (16, 16)).astype(np.uint16)).save(root / f"{row}.tif")
    return root


def mean(source) -> float:
    return source.load(Request(torch.arange(len(source)))).images.pixels.float().mean().item()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("levels")
    data = folder_of(root / "data", 4096)
    return sanslabel.train(data, encoder="mlp", epochs=1, batch=8, cache="none", workers=0, out=root / "run")


def test_run_and_encoder_state_the_levels(run):
    ((low, high),) = run.known_plan.inputs["image"].levels
    assert 100 <= low < 150
    assert 4000 < high <= 4095
    assert RunFolder.open(run.path).known_plan.inputs == run.known_plan.inputs
    config = checkpoint.exported_config(run.path)
    assert config["levels"] == [[low, high]]
    assert sanslabel.load_encoder(run.path).reads.levels == ((low, high),)


def test_other_pictures_are_read_at_the_levels_of_the_run(run, tmp_path):
    darker = folder_of(tmp_path / "darker", 600)
    levels = run.known_plan.inputs["image"].levels
    for source in (run.source(data=darker), open_for(run.encoder().reads, darker, "train")):
        assert source.image.levels == levels
        assert mean(source) < 30
    assert mean(run.source()) > 100


def test_a_run_of_an_earlier_version_goes_on_as_it_began(run, tmp_path):
    content = json.loads((run.path / "run.json").read_text())
    del content["inputs"]["image"]["levels"]
    (tmp_path / "run.json").write_text(json.dumps(content))
    source = RunFolder.open(tmp_path).source()
    assert source.image.levels == ((0.0, 65535.0),)
    assert mean(source) < 10
