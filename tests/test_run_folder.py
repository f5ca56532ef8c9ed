"""Run folders, read through RunFolder alone."""

import json
import re
import shutil
from dataclasses import replace
from math import isnan
from pathlib import Path

import pytest
import torch

import sanslabel
from sanslabel import checkpoint
from sanslabel.encoders import vit
from sanslabel.errors import BadInput, UnfinishedWarning
from sanslabel.evaluation.protocols.knn import KNN
from sanslabel.methods import method_class
from sanslabel.report.snapshot import snapshot
from sanslabel.run_config import Spent
from sanslabel.run_folder import RunFolder
from sanslabel.scores import read_scores, write_scores

KEPT = Path(__file__).parent / "training" / "kept" / "89c30e0"
METHODS = sorted(file.parent.name for file in KEPT.glob("*/metrics.jsonl"))
"""of the runs that were kept with their figures"""
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
    (file,) = folder.scores
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


@pytest.mark.parametrize("name", METHODS)
def test_the_encoder_of_a_stopped_run_is_that_of_its_newest_checkpoint(name, tmp_path, tiny_vit):
    run = Path(shutil.copytree(KEPT / name, tmp_path / "a run"))
    exported = RunFolder.open(run).exported()
    for file in (run / "config.json", *run.glob("*.safetensors")):
        file.unlink()
    sentence = re.escape(f"after step 6 of 10; sanslabel.resume('{tmp_path}/a run') finishes it")
    for network in exported:
        with pytest.warns(UnfinishedWarning, match=sentence):
            _, net = RunFolder.open(run).networks(CPU)
        with pytest.warns(UnfinishedWarning, match=sentence) as warned:
            encoder = sanslabel.load_encoder(run, network)
        assert len(warned) == 1
        expected = RunFolder.open(run).method().encoders(net)[network]
        assert type(encoder) is type(expected)
        assert encoder.config == expected.config
        assert not encoder.training
        assert any(parameter.requires_grad for parameter in encoder.parameters()), "of a teacher, too"
        assert all(map(torch.equal, encoder.state_dict().values(), expected.state_dict().values()))
    with pytest.warns(UnfinishedWarning):
        first = RunFolder.open(run).trained_encoder()
    assert first.network == exported[0]
    with pytest.warns(UnfinishedWarning), pytest.raises(BadInput, match=f"no network 'x'; there are: {exported[0]}"):
        sanslabel.load_encoder(run, "x")


def test_what_was_measured_before_the_export_was_measured_of_the_same_encoder(tmp_path):
    """The SHA-256 of scores is that of the file that is exported later from the same weights."""
    options = {"encoder": {"name": "mlp", "hidden": [16]}, "epochs": 1, "precision": "float32", "device": "cpu"}
    run = sanslabel.train("digits", method="dino", out=tmp_path / "run", **options)
    assert run.exported() == ["teacher", "student"]
    exported = [run.trained_encoder(name) for name in (None, "teacher", "student")]
    (run.path / "config.json").unlink()
    for before in exported:
        with pytest.warns(UnfinishedWarning, match="after step 5 of 5"):
            after = run.trained_encoder(before.network)
        assert (after.network, after.sha256) == (before.network, before.sha256)


def test_a_stopped_run_is_measured(run):
    for file in ("config.json", "encoder.safetensors"):
        (run / file).unlink()
    shutil.rmtree(run / "evaluation")
    with pytest.warns(UnfinishedWarning, match="after step 6 of 10"):
        scores = sanslabel.evaluate(run, protocols=(KNN(draws=1),), baselines=False)
    assert {score.representation for score in scores} == {"trained encoder (student)"}
    with pytest.warns(UnfinishedWarning):
        sha256 = RunFolder.open(run).trained_encoder().sha256
    assert [file.sha256 for file in RunFolder.open(run).scores] == [sha256]


def test_the_last_step_of_a_run_that_was_stopped_between_two_lines(run):
    (run / "config.json").unlink()
    (run / "metrics.jsonl").unlink()
    assert (RunFolder.open(run).done, RunFolder.open(run).unfinished) == (6, True)
    assert snapshot(run, "run").done == 6


def test_a_run_without_its_parts(run):
    shutil.rmtree(run / "checkpoints")
    (run / "config.json").unlink()
    (run / "metrics.jsonl").unlink()
    folder = RunFolder.open(run)
    assert (folder.lines(), folder.done, folder.unfinished, folder.exported()) == ([], 0, True, [])
    with pytest.raises(BadInput, match="has no checkpoint yet"):
        folder.networks(CPU)
    with pytest.raises(
        BadInput, match=r"no trained encoder here, .* no checkpoint yet; finish it with: sanslabel.resume"
    ):
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
