"""Methods that read several signals have an encoder for each."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

import sanslabel
from sanslabel import checkpoint, run_folder
from sanslabel.batch import Images
from sanslabel.cli.commands.train import _encoder
from sanslabel.errors import BadInput
from sanslabel.inputs import ImageSpec
from sanslabel.losses import nt_xent
from sanslabel.methods.method import Method, Networks, Objective
from sanslabel.methods.simclr import SimCLR
from sanslabel.run_folder import build_encoders
from sanslabel.sources import open_source
from sanslabel.training import run as running

QUICK = dict(data="digits", batch=512, epochs=1, precision="float32", device="cpu")


@dataclass(frozen=True, kw_only=True)
class Crossmodal(Method):
    """A sample's two signals must find each other."""

    family, energy, prevents_collapse, paper, year = "contrastive", "minus the cosine", "negatives", "none", 2026
    signals = ("image", "color")
    recipe = small = replace(SimCLR.small, encoder={"name": "mlp", "hidden": [16]})

    def networks(self, encoder, facts):
        return Networks(encoders=nn.ModuleDict(encoder))

    def step(self, net, batch, clock):
        a, b = (net.encoders[name](batch.signals[name].pixels.float() / 255) for name in self.signals)
        yield Objective(nt_xent(a, b, 0.2), embedding=a, positive=b)

    def encoders(self, net):
        return dict(net.encoders.items())


@pytest.fixture
def colored(monkeypatch):
    """The digits, each also as a picture of three channels."""

    def opened(*arguments, **options):
        source = open_source(*arguments, **options)
        pixels = source.signals["image"].pixels
        spec = ImageSpec(channels=3, height=8, width=8)
        signals = {**source.signals, "color": Images(pixels.repeat(1, 3, 1, 1))}
        return replace(source, signals=signals, inputs={**source.inputs, "color": spec})

    for module in (running, run_folder):
        monkeypatch.setattr(module, "open_source", opened)


def test_each_signal_has_an_encoder_of_its_shape(colored, tmp_path):
    run = sanslabel.train(method=Crossmodal(), out=tmp_path / "run", **QUICK)
    plan = run.plan
    assert {name: config["channels"] for name, config in plan.encoders.items()} == {"image": 1, "color": 3}
    assert plan.encoder == plan.encoders["image"]
    assert plan.inputs["color"] == ImageSpec(channels=3, height=8, width=8)
    assert run.facts().inputs == plan.inputs
    assert {name: encoder.config for name, encoder in build_encoders(plan).items()} == plan.encoders
    assert run.exported() == ["image", "color"]
    assert run.encoder("color")(torch.rand(3, 3, 8, 8)).shape == (3, 16)
    newest = checkpoint.newest(run.path / "checkpoints")
    assert newest is not None
    assert sanslabel.resume(run.path, method=Crossmodal()).plan == plan


def test_encoders_are_chosen_by_signal(colored, tmp_path):
    choice = {"image": "conv", "color": {"name": "mlp", "hidden": [256]}}
    run = sanslabel.train(method=Crossmodal(), encoder=choice, out=tmp_path / "run", **QUICK | {"lr": 1e-3})
    assert [config["name"] for config in run.plan.encoders.values()] == ["conv", "mlp"]


def test_the_command_line_names_an_encoder_for_each_signal():
    assert _encoder("image=conv,audio=mlp", ()) == {"image": "conv", "audio": "mlp"}
    assert _encoder("conv", ()) == "conv"
    with pytest.raises(BadInput, match="apply to one encoder only"):
        _encoder("image=conv,audio=mlp", ("patch=4",))


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(BadInput, match="digits: has no color, which the method reads"):
        sanslabel.train(method=Crossmodal(), **QUICK)
    with pytest.raises(BadInput, match="`encoder`: names no encoder for image; give one for each of image"):
        sanslabel.train(method="simclr", encoder={"audio": "mlp"}, **QUICK)


def test_a_signal_without_an_encoder_is_named(colored):
    with pytest.raises(BadInput, match="names no encoder for color; give one for each of image, color"):
        sanslabel.train(method=Crossmodal(), encoder={"image": "mlp"}, **QUICK)
    with pytest.raises(BadInput, match="has an encoder for each of image, color; leave it out"):
        sanslabel.train(method=Crossmodal(), weights="tests/training/kept/89c30e0/simclr", **QUICK)
