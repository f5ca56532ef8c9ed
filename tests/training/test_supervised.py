"""Supervised training: the one method that reads labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import sanslabel
from sanslabel import checkpoint
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.encoders import build
from sanslabel.errors import BadInput
from sanslabel.methods.supervised import Supervised
from sanslabel.sources import open_source
from sanslabel.training.signals import Stopped

OPTIONS = dict(
    data="digits",
    method="supervised",
    encoder={"name": "mlp", "hidden": [128]},
    batch=128,
    epochs=12,
    lr=1e-2,
    precision="float32",
    device="cpu",
)
"""11 steps an epoch"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return sanslabel.train(out=tmp_path_factory.mktemp("supervised") / "run", **OPTIONS)


def test_it_learns_the_labels(trained):
    lines = trained.lines()
    assert lines[0]["trivial"] == pytest.approx(np.log(10))
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert lines[-1]["accuracy"] > 0.75
    assert trained.facts().classes == 10


def test_its_networks_classify_test_images(trained):
    """The classifier is no part of the exported encoder, but of the checkpoint."""
    method, net = trained.networks(torch.device("cpu"))
    assert isinstance(method, Supervised)
    source = open_source("digits", "test")
    with torch.no_grad():
        predicted = net.classifier(net.encoder(source.images.float() / 255)).argmax(dim=1)
    assert (predicted == source.labels).float().mean() > 0.8


def test_stopped_and_resumed_it_ends_with_the_same_bits(trained, tmp_path, interrupted):
    with interrupted(7), pytest.raises((KeyboardInterrupt, Stopped)):
        sanslabel.train(out=tmp_path / "run", **OPTIONS)
    resumed = sanslabel.resume(tmp_path / "run")
    states = [
        checkpoint.read_tensors(checkpoint.newest(run.path / "checkpoints") / "networks.safetensors")
        for run in (trained, resumed)
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_data_without_labels_are_refused(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((8, 8, 8), dtype=np.uint8))
    with pytest.raises(BadInput, match="no labels"):
        sanslabel.train(out=tmp_path / "run", **OPTIONS | {"data": tmp_path / "images.npy"})
    assert not (tmp_path / "run").exists()


def test_samples_without_a_label_are_left_out_of_the_loss():
    method = Supervised().sized(8)
    method = replace(method, view=replace(method.view, crop=(1.0, 1.0), flip=0.0))
    net = method.networks(build("mlp", channels=1, image_size=8, hidden=[4]), Facts.of_images(6, 1, 8, 8, classes=3))
    labels, pixels = torch.tensor([0, 2, 1, -1, -1, -1]), torch.rand(6, 1, 8, 8)
    clock = Clock(seed=0, epoch=0, step=0, steps=1, steps_per_epoch=1)

    def objective(count: int):
        batch = Batch.of_images(pixels[:count], torch.arange(count), torch.arange(count), labels[:count])
        return next(method.step(net, batch, clock))

    few, all_six = objective(3), objective(6)
    torch.testing.assert_close(all_six.loss, few.loss)
    torch.testing.assert_close(all_six.terms["accuracy"], few.terms["accuracy"])
    none = Batch.of_images(pixels, torch.arange(6), torch.arange(6), torch.full((6,), -1))
    assert next(method.step(net, none, clock)).loss == 0
