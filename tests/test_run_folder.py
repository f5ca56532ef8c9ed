"""Run folders, read through RunFolder alone."""

import json
import shutil
from dataclasses import replace
from math import isnan
from pathlib import Path

import pytest
import torch

from sanslabel import checkpoint
from sanslabel.encoders import vit
from sanslabel.errors import BadInput
from sanslabel.methods import method_class
from sanslabel.run_config import Spent
from sanslabel.run_folder import RunFolder
from sanslabel.scores import read_scores, write_scores

KEPT = Path(__file__).parent / "training" / "kept" / "89c30e0"
METHODS = sorted(folder.name for folder in KEPT.iterdir())
CPU = torch.device("cpu")


@pytest.fixture
def run(tmp_path):
    """A SimCLR run that stopped after six of its ten steps, with the encoder that it ended with."""
    return Path(shutil.copytree(KEPT / "simclr", tmp_path / "run"))


@pytest.fixture
def tiny_vit(monkeypatch):
    monkeypatch.setitem(vit.SHAPES, "vit_micro", vit.Shape(depth=1, width=16, heads=2))


@pytest.mark.parametrize("name", METHODS)
def test_each_kept_run_is_read(name, tiny_vit):
    folder = RunFolder.open(KEPT / name)
    assert folder.plan is not None
    assert (folder.plan.method, folder.plan.samples, folder.plan.batch, folder.plan.epochs) == (name, 1438, 256, 2)
    assert (folder.steps, folder.done, folder.unfinished) == (10, 10, False)
    assert folder.versions["torch"] == "2.13.0+cpu"
    assert isinstance(folder.method(), method_class(name))
    assert folder.recipe().epochs == method_class(name).small.epochs
    facts = folder.facts()
    assert (facts.samples, facts.image.height, facts.image.channels, facts.classes) == (1438, 8, 1, 10)
    _, net = folder.networks(CPU)
    assert not net.training
    saved = checkpoint.read_tensors(checkpoint.newest(KEPT / name / "checkpoints") / "networks.safetensors")
    saved = checkpoint.with_new_names(saved, net.state_dict())
    assert saved.keys() == net.state_dict().keys()
    assert all(torch.equal(value, saved[key]) for key, value in net.state_dict().items())


def test_what_a_run_recorded(run):
    folder = RunFolder.open(run)
    assert folder.exported() == ["student"]
    assert folder.encoder()(torch.rand(2, 1, 8, 8)).shape == (2, folder.encoder().width)
    assert folder.encoder_file() == run / "encoder.safetensors"
    assert [line["step"] for line in folder.lines()][-1] == 10
    assert folder.verdict().sentence
    (file,) = folder.scores()
    assert (file.data, file.network, file.split) == ("digits", "student", "test split")
    assert {score.protocol for score in file.scores} == {"knn", "linear"}
    assert folder.source().split == "test"
    assert len(folder.source("train")) == 1438


def test_a_run_is_written_back_as_it_was_read(run):
    folder = RunFolder.open(run)
    spent = Spent(seconds=1.5, peak_memory=3, device_memory=0)
    replace(folder, spent=spent).write()
    assert json.loads((run / "run.json").read_text())["format"] == 2
    assert RunFolder.open(run) == replace(folder, spent=spent)


def test_a_folder_with_nothing_but_an_encoder(run):
    (run / "run.json").unlink()
    folder = RunFolder.open(run)
    assert folder.plan is None
    assert folder.encoder().width == 16
    for use in (folder.method, folder.facts, folder.source, lambda: folder.networks(CPU)):
        with pytest.raises(BadInput, match="no run here"):
            use()


def test_a_run_without_its_parts(run):
    shutil.rmtree(run / "checkpoints")
    (run / "config.json").unlink()
    (run / "metrics.jsonl").unlink()
    folder = RunFolder.open(run)
    assert (folder.lines(), folder.done, folder.unfinished, folder.exported()) == ([], 0, True, [])
    with pytest.raises(BadInput, match="has no checkpoint yet"):
        folder.networks(CPU)
    with pytest.raises(BadInput, match="no trained encoder here"):
        folder.encoder()
    with pytest.raises(BadInput, match="no run here"):
        RunFolder.open(run / "elsewhere")


def test_a_method_that_is_not_installed(run):
    content = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(content | {"method": "Mine"}))
    with pytest.raises(BadInput, match=r"trained with Mine, .*hand it over again"):
        RunFolder.open(run).method()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": 3}, "upgrade"),
        ({"samples": "many"}, "samples"),
        ({"batch": 0}, "batch 0: must be from 2 to"),
        ({"versions": 3}, "describe a run"),
        ({"spent": 3}, "spent|none of"),
    ],
)
def test_a_damaged_run_file_is_refused(run, change, sentence):
    content = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(content | change))
    with pytest.raises(BadInput, match=rf"run\.json.*({sentence})"):
        RunFolder.open(run)


def test_scores_are_written_back_as_they_were_read(run):
    path = run / "evaluation" / "digits.json"
    before, file = json.loads(path.read_text()), read_scores(path)
    write_scores(path, file)
    assert json.loads(path.read_text()) == before
    nothing = replace(file, scores=(replace(file.scores[0], value=float("inf")),))
    write_scores(path, nothing)
    assert json.loads(path.read_text())["scores"][0]["value"] is None
    assert isnan(read_scores(path).scores[0].value)


def test_scores_of_earlier_versions_had_one_metric(run):
    path = run / "evaluation" / "digits.json"
    content = json.loads(path.read_text())
    for score in content["scores"]:
        del score["metric"], score["stage"]
    path.write_text(json.dumps(content))
    assert {(score.metric, score.stage) for score in read_scores(path).scores} == {("accuracy", None)}
    path.write_text(json.dumps(content | {"fingerprints": {"test": 3}}))
    with pytest.raises(BadInput, match="measure again"):
        read_scores(path)
