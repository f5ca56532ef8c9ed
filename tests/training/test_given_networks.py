"""Networks that a run is given: weights to start from, and a frozen teacher to learn from."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

import sanslabel
from sanslabel import checkpoint
from sanslabel.errors import BadInput
from sanslabel.memory import Frozen
from sanslabel.methods.method import Method, Networks, Objective
from sanslabel.methods.simclr import SimCLR
from sanslabel.run_folder import RunFolder
from sanslabel.training.session import Session
from sanslabel.views import RECONSTRUCTION

KEPT = Path(__file__).parent / "kept" / "89c30e0"
QUICK = dict(data="digits", batch=512, epochs=1, precision="float32", device="cpu")


@pytest.fixture
def given(tmp_path):
    """The folder of a trained run, which tests may change."""
    return Path(shutil.copytree(KEPT / "simclr", tmp_path / "given"))


@dataclass(frozen=True, kw_only=True)
class Taught(Method):
    """Predicts the representation of a given teacher."""

    family, energy, prevents_collapse, paper, year = "distillation", "squared distance", "the teacher", "none", 2026
    recipe = small = SimCLR.small

    def networks(self, encoder, facts, teacher):
        return Networks(encoder=encoder, predictor=nn.Linear(encoder.width, teacher.width), given=Frozen(teacher))

    def step(self, net, batch, clock):
        view = RECONSTRUCTION(batch, 0)
        yield Objective((net.predictor(net.encoder(view)) - net.given(view)).square().mean())


@pytest.mark.parametrize(
    "encoder",
    [
        "timm/resnet18.a1_in1k",
        {"name": "timm/resnet18.a1_in1k", "pretrained": False},
        {"image": "timm/resnet18.a1_in1k"},
    ],
)
def test_a_tag_of_pretrained_weights_is_refused(tmp_path, encoder):
    with pytest.raises(BadInput) as error:
        sanslabel.train(**QUICK, encoder=encoder, image_size=32, out=tmp_path / "run")
    for words in ("a1_in1k names pretrained weights", "not fetched", "name timm/resnet18, and", "--weights"):
        assert words in error.value.args[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("pretrained", [True, "true", "false", 1])
def test_pretrained_as_an_option_gets_the_same_answer(tmp_path, pretrained):
    with pytest.raises(BadInput, match="training starts from fresh weights; leave it out, and to start from weights"):
        sanslabel.train(
            **QUICK, encoder={"name": "timm/resnet18", "pretrained": pretrained}, image_size=32, out=tmp_path / "run"
        )


def first_weights(monkeypatch, **options):
    """The encoder's tensors before the first step."""
    weights = {}

    def recorded(session, *_):
        weights.update({name: value.clone() for name, value in session.net.encoder.state_dict().items()})

    with monkeypatch.context() as patch:
        patch.setattr(Session, "follow", recorded)
        sanslabel.train(**QUICK | options)
    return weights


def test_a_run_starts_from_given_weights_and_names_them(given, tmp_path, monkeypatch, capsys):
    theirs = checkpoint.read_tensors(given / "encoder.safetensors")
    ours = first_weights(monkeypatch, method="vicreg", weights=str(given), out=tmp_path / "a")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert f"weights from {given}" in capsys.readouterr().err
    plan = RunFolder.open(tmp_path / "a").plan
    assert plan.encoder["hidden"] == [16], "the encoder is that of the run"
    assert (plan.weights.path, plan.weights.sha256) == (str(given), checkpoint.sha256(given / "encoder.safetensors"))
    others = first_weights(monkeypatch, method="vicreg", out=tmp_path / "b", encoder={"name": "mlp", "hidden": [16]})
    assert not all(torch.equal(others[name], theirs[name]) for name in theirs)


def test_weights_of_another_encoder_are_refused_unless_missing_ones_are_allowed(given, tmp_path):
    options = QUICK | {"out": tmp_path / "run", "weights": str(given / "encoder.safetensors")}
    with pytest.raises(BadInput, match="choose the encoder"):
        sanslabel.train(encoder={"name": "mlp", "hidden": [8]}, **options)
    with pytest.raises(BadInput, match="allow_missing"):
        sanslabel.train(encoder={"name": "mlp", "hidden": [16, 256]}, **options)
    assert not (tmp_path / "run").exists()
    run = sanslabel.train(encoder={"name": "mlp", "hidden": [16, 256]}, allow_missing=True, **options)
    assert run.plan.allow_missing
    with pytest.raises(BadInput, match="`allow_missing`: applies only to `weights`"):
        sanslabel.train(allow_missing=True, **QUICK)


@pytest.mark.parametrize("role", ["weights", "teacher"])
def test_a_resume_refuses_a_given_network_that_changed(given, tmp_path, role):
    method = "simclr" if role == "weights" else Taught()
    run = sanslabel.train(method=method, out=tmp_path / "run", **QUICK, **{role: str(given)}).path
    handed_over = None if role == "weights" else method
    sanslabel.resume(run, method=handed_over)
    shutil.copy(KEPT / "moco" / "encoder.safetensors", given)
    with pytest.raises(BadInput, match="has changed since the run began"):
        sanslabel.resume(run, method=handed_over)
    shutil.rmtree(given)
    with pytest.raises(BadInput, match="there is no such file or folder"):
        sanslabel.resume(run, method=handed_over)


def test_a_teacher_is_given_frozen_and_is_in_no_checkpoint(given, tmp_path):
    run = sanslabel.train(method=Taught(), out=tmp_path / "run", teacher=str(given), **QUICK)
    assert json.loads((run.path / "run.json").read_text())["teacher"]["license"] is None
    newest = checkpoint.newest(run.path / "checkpoints")
    names = set(checkpoint.read_tensors(newest / "networks.safetensors"))
    assert {name.partition(".")[0] for name in names} == {"encoder", "predictor"}
    lines = run.lines()
    assert lines[-1]["loss"] < 1


def test_a_teacher_goes_with_the_methods_that_ask_for_one(given, tmp_path):
    with pytest.raises(BadInput, match="`teacher`: simclr does not learn from a given network"):
        sanslabel.train(method="simclr", teacher=str(given), **QUICK)
    with pytest.raises(BadInput, match="`teacher`: Taught learns from a trained encoder"):
        sanslabel.train(method=Taught(), **QUICK)
    with pytest.raises(BadInput, match="does not state how its encoder is built"):
        sanslabel.train(method=Taught(), teacher=str(given / "encoder.safetensors"), **QUICK)
    assert not (tmp_path / "run").exists()
