from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sanslabel import encoders, views
from sanslabel.batch import Facts
from sanslabel.diagnostics import effective_rank
from sanslabel.engine import optimize, players_of
from sanslabel.losses import barlow_twins
from sanslabel.methods.barlow_twins import BarlowTwins

FACTS = Facts.of_images(samples=64, channels=1, height=8, width=8, classes=0)


def small(**numbers) -> BarlowTwins:
    return BarlowTwins(**{**BarlowTwins.small.hyperparameters, "width": 32, **numbers}).sized(8)


def networks(method: BarlowTwins):
    torch.manual_seed(0)
    return method.networks(encoders.build("conv", channels=1, image_size=8), FACTS).train()


def told(a: torch.Tensor, b: torch.Tensor, batch, **numbers):
    """The objective of networks that say a, then b."""
    answers = iter((a, b))
    net = SimpleNamespace(encoder=lambda images, *_: images, projector=lambda x: next(answers))
    net.partner = net
    return next(small(**numbers).step(net, batch, None))


def test_heads_are_the_authors():
    net = networks(small())
    kinds = [type(m).__name__ for m in net.projector]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert all(m.bias is None for m in net.projector if isinstance(m, nn.Linear))
    assert (BarlowTwins().width, BarlowTwins().layers, BarlowTwins().redundancy) == (8192, 3, 0.0051)


def test_collapse_costs_one_a_dimension(first_batches):
    (_, batch), *_ = first_batches()
    z = torch.full((32, 32), 0.3)
    found = told(z, z, batch)
    assert found.loss.item() == pytest.approx(found.trivial, rel=1e-6)
    assert found.trivial == 32


def test_it_is_the_loss_of_the_two_views(first_batches):
    (_, batch), *_ = first_batches()
    a, b = torch.randn(2, 32, 32)
    assert told(a, b, batch).loss.item() == pytest.approx(barlow_twins(a, b).item())
    assert told(a, b, batch, redundancy=1.0).loss.item() == pytest.approx(barlow_twins(a, b, 1.0).item())


def test_views_go_through_one_after_the_other(first_batches):
    """So that each is normalized by itself: BatchNorm counts two passes."""
    clock, batch = first_batches()[0]
    method = small()
    net = networks(method)
    first = next(method.step(net, batch, clock)).embedding
    assert net.projector[1].num_batches_tracked == 2
    alone = networks(method)
    assert torch.equal(first, alone.projector(alone.encoder(method.view(batch, 0))))


def test_a_last_layer_of_zeros_has_no_gradient(first_batches):
    """Exact collapse is stationary: nothing but the perturbation of a real start leaves it."""
    clock, batch = first_batches()[0]
    method = small()
    net = networks(method)
    nn.init.zeros_(net.projector[-1].weight)
    found = next(method.step(net, batch, clock))
    assert found.loss.item() == pytest.approx(32)
    found.loss.backward()
    assert max(p.grad.abs().max().item() for p in net.encoder.parameters()) == 0


def test_biases_and_norms_have_the_rate_that_works_in_the_authors_training():
    """Their gradient is a sixteenth of the whole one, and LARS makes up for it for weights alone; the parity tests
    train both ways."""
    net, recipe = networks(small()), BarlowTwins.recipe
    (player,) = players_of(net, recipe, 2048).values()
    rates = {}
    for group in player.optimizer.param_groups:
        for p in group["params"]:
            rates[p] = group["base_lr"], group["base_decay"], group["adapt"]
    assert player.scale == 8
    for p in net.parameters():
        assert rates[p] == ((0.2, 1.6e-5, True) if p.ndim > 1 else (pytest.approx(0.0003), 0.0, False))


def test_the_teacher_embeds_the_second_view(first_batches):
    method = small(teacher_momentum=0.5)
    net = networks(method)
    before = net.teacher.projector[0].weight.clone()
    records = list(optimize(method, net, players_of(net, BarlowTwins.small, 32), first_batches()[:1]))
    student = net.projector[0].weight
    assert not torch.equal(student, before)
    torch.testing.assert_close(net.teacher.projector[0].weight, 0.5 * before + 0.5 * student.detach())
    assert not records[0].refused


def test_dimensions_come_to_agree_and_to_differ(trained):
    method = BarlowTwins(width=64, redundancy=0.05, view=views.View(crop=(0.5, 1.0))).sized(8)
    first, *_, last = trained(method, BarlowTwins.small, epochs=4)
    assert last.loss < 0.5 * first.loss
    assert last.loss < 0.4 * last.trivial
    assert effective_rank(last.embedding - last.embedding.mean(dim=0)) > 20
