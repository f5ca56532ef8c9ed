"""A picture and its sound, each with an encoder of its own."""

from dataclasses import replace
from math import log

import pytest
import torch

from bench.bouncing import bouncing, small_source, source_of
from sanslabel import encoders
from sanslabel.batch import Clock
from sanslabel.engine import optimize, players_of
from sanslabel.heads import Temperature
from sanslabel.losses import cross_modal
from sanslabel.methods.cross_modal import CrossModal
from sanslabel.sources.loader import batches
from sanslabel.views import View

SMALL = replace(CrossModal.under(CrossModal.small), width=16, hidden=16).sized(8)
SMALLEST = {"image": {"name": "dcgan", "filters": 8}, "audio": {"name": "mlp", "hidden": [32]}}
CLOCK = Clock(0, 0, 0, 10, 5)


@pytest.fixture(scope="module")
def source():
    return small_source(64, 8)


def first_batch(source, size=32):
    return next(iter(batches(source, size, seed=0, epochs=1, device=torch.device("cpu"))))[1]


def networks(source, method):
    torch.manual_seed(0)
    built = {signal: encoders.build(**SMALLEST[signal], **source.inputs[signal].arguments) for signal in method.signals}
    return method.networks(built, source.facts()).train()


def test_collapse_gives_the_log_of_the_batch(source):
    net = networks(source, SMALL)
    with torch.no_grad():
        for projector in net.projectors.values():
            projector[-1].weight.zero_()
            projector[-1].weight[:, 0] = 1e-3
            projector[0].weight.zero_()
            projector[1].bias.fill_(1.0)
    (objective,) = SMALL.step(net, first_batch(source), CLOCK)
    assert objective.loss.item() == pytest.approx(log(32), abs=1e-4)
    assert objective.trivial == log(32)
    assert objective.terms["accuracy"] == pytest.approx(1 / 32)
    assert objective.terms["modality_gap"] == pytest.approx(0, abs=1e-4)


def test_the_loss_is_that_of_the_embeddings(source):
    net, batch = networks(source, SMALL), first_batch(source)
    (objective,) = SMALL.step(net, batch, CLOCK)
    expected = cross_modal(objective.embedding, objective.positive, 0.07)
    assert objective.loss.item() == pytest.approx(expected.item(), rel=1e-6)
    grouped = batch._replace(group=torch.arange(32) // 2)
    (objective,) = SMALL.step(networks(source, SMALL), grouped, CLOCK)
    assert objective.loss.item() == pytest.approx(
        cross_modal(objective.embedding, objective.positive, 0.07, torch.arange(32) // 2).item(), rel=1e-6
    )
    assert objective.loss < expected, "samples of one clip are no negatives"


def test_each_signal_has_statistics_of_its_own(source):
    net = networks(source, SMALL)
    next(SMALL.step(net, first_batch(source), CLOCK))
    image, audio = (net.projectors[signal][1].running_mean for signal in SMALL.signals)
    assert not torch.equal(image, audio)
    assert list(SMALL.encoders(net)) == ["image", "audio"]
    embedded = SMALL.embedders(net.eval())["audio"](torch.rand(4, 1, 8, 8))
    assert embedded.shape == (4, 16)


def test_a_fixed_temperature_is_no_weight(source):
    method = replace(SMALL, learned=False, temperature=0.2)
    net = networks(source, method)
    assert not hasattr(net, "temperature")
    (objective,) = method.step(net, first_batch(source), CLOCK)
    expected = cross_modal(objective.embedding, objective.positive, 0.2)
    assert objective.loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_temperature_falls_to_its_limit_and_can_rise_again(source):
    temperature = Temperature(0.07)
    assert temperature().item() == pytest.approx(0.07, rel=1e-6)
    with torch.no_grad():
        temperature.log_scale.fill_(10.0)
    temperature.limit_()
    assert temperature().item() == pytest.approx(0.01, rel=1e-6)
    (gradient,) = torch.autograd.grad(temperature(), temperature.log_scale)
    assert gradient.item() == pytest.approx(-0.01, rel=1e-6)
    net = networks(source, SMALL)
    with torch.no_grad():
        net.temperature.log_scale.fill_(10.0)
    list(optimize(SMALL, net, players_of(net, CrossModal.small, 32), [(CLOCK, first_batch(source))]))
    assert net.temperature().item() == pytest.approx(0.01, rel=1e-6)


def test_it_learns_to_find_the_partner():
    """Of 64 pairs, whose size, shape and height two small encoders can tell, in 40 steps."""
    source = source_of(bouncing(64, frames=1, side=16, rate=2000), mels=16, points=96)
    method = replace(SMALL, temperature=0.2, learned=False, view=View(size=16))
    scaling = {"image": source.standardization(), "audio": ((-9.0,), (4.0,))}
    torch.manual_seed(0)
    built = {
        signal: encoders.build("mlp", hidden=[128, 64], scaling=scaling[signal], **source.inputs[signal].arguments)
        for signal in method.signals
    }
    net = method.networks(built, source.facts()).train()
    stream = batches(source, 64, seed=0, epochs=40, device=torch.device("cpu"))
    players = players_of(net, CrossModal.small, 64)
    objectives = [objective for record in optimize(method, net, players, stream) for objective in record.objectives]
    assert objectives[-1].loss.item() < 0.5 * log(64)
    assert objectives[-1].terms["accuracy"] > 0.3
