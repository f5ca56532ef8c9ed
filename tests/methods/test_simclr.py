from dataclasses import replace
from math import log

import pytest
import torch
from torch import nn

from sanslabel import encoders
from sanslabel.batch import Facts
from sanslabel.losses import nt_xent
from sanslabel.methods.simclr import SimCLR
from sanslabel.optimizers import LARS
from sanslabel.recipe import Recipe
from sanslabel.serialization import from_plain, to_plain

FACTS = Facts.of_images(samples=64, channels=1, height=8, width=8, classes=0)
METHOD = SimCLR(**{**SimCLR.small.hyperparameters, "hidden": 32, "width": 16}).sized(8)


def networks(method: SimCLR):
    torch.manual_seed(0)
    return method.networks(encoders.build("conv", channels=1, image_size=8), FACTS).train()


def test_collapse_costs_the_log_of_all_others(first_batches):
    (clock, batch), *_ = first_batches()
    net = networks(METHOD)
    net.projector = nn.Linear(net.encoder.width, 16)
    nn.init.zeros_(net.projector.weight)
    nn.init.ones_(net.projector.bias)
    (objective,) = METHOD.step(net, batch, clock)
    assert objective.loss.item() == pytest.approx(log(2 * 32 - 1), rel=1e-6)
    assert objective.trivial == pytest.approx(log(2 * 32 - 1))


def test_both_views_go_through_the_network_in_one_pass(first_batches):
    """BatchNorm takes its statistics over both."""
    (clock, batch), *_ = first_batches()
    net, twin = networks(METHOD), networks(METHOD)
    (objective,) = METHOD.step(net, batch, clock)
    views = torch.cat([METHOD.view(batch, stream) for stream in (0, 1)])
    a, b = twin.projector(twin.encoder(views)).chunk(2)
    torch.testing.assert_close(objective.loss, nt_xent(a, b, METHOD.temperature))
    torch.testing.assert_close(objective.embedding, a)
    for ours, theirs in zip(net.buffers(), twin.buffers(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_projector_is_the_authors():
    """BatchNorm after every layer, no bias under it, and none in the last one."""
    net = replace(SimCLR(), hidden=32, width=16).networks(encoders.build("conv", channels=1, image_size=8), FACTS)
    assert [type(layer) for layer in net.projector] == [nn.Linear, nn.BatchNorm1d, nn.ReLU] * 2 + [
        nn.Linear,
        nn.BatchNorm1d,
    ]
    assert all(layer.bias is None for layer in net.projector if isinstance(layer, nn.Linear))
    assert not net.projector[-1].bias.requires_grad
    assert (SimCLR().hidden, SimCLR().width, SimCLR().layers) == (2048, 128, 3)


def test_the_recipe_leaves_biases_and_norms_out_of_decay_and_trust():
    net, optimizer = networks(METHOD), SimCLR.recipe.optimizer
    assert isinstance(optimizer, LARS)
    for group in SimCLR.recipe.parameter_groups(net, optimizer):
        vectors = {p.ndim == 1 for p in group["params"]}
        assert vectors == {not group["adapt"]}
        assert (group["base_decay"], group["base_lr"]) == ((0.5e-6, 0.3) if group["adapt"] else (0.0, 0.6))
    assert SimCLR.recipe.scale(4096) * optimizer.lr == pytest.approx(4.8)


def test_a_run_of_before_goes_on_with_its_own_momentum():
    stored = to_plain(SimCLR.recipe)
    del stored["optimizer"]["lr_in_momentum"]
    assert SimCLR.recipe.optimizer.lr_in_momentum
    assert not from_plain(Recipe, stored).optimizer.lr_in_momentum


def test_a_teacher_embeds_the_second_view_and_follows(first_batches):
    (clock, batch), *_ = first_batches()
    method = replace(METHOD, teacher_momentum=0.9)
    net = networks(method)
    with torch.no_grad():
        first, second = method.view(batch, 0), method.view(batch, 1)
        a, b = net.projector(net.encoder(first)), net.teacher.projector(net.teacher.encoder(second))
    steps = method.step(net, batch, clock)
    torch.testing.assert_close(next(steps).loss.detach(), nt_xent(a, b, method.temperature))
    before = net.teacher.projector[0].weight.clone()
    with torch.no_grad():
        net.projector[0].weight.add_(1.0)
    assert next(steps, None) is None
    torch.testing.assert_close(net.teacher.projector[0].weight, before + 0.1)
