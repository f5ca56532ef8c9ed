from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sanslabel import encoders, losses, views
from sanslabel.batch import Clock, Facts
from sanslabel.diagnostics import effective_rank, spread
from sanslabel.methods.lejepa import LeJEPA

FACTS = Facts.of_images(samples=64, channels=1, height=8, width=8, classes=0)
CLOCK = Clock(0, 0, 0, 10, 2)
SIGREG = losses.sigreg
PLAIN = views.View(crop=(0.5, 1.0))
CROPS = views.MultiCrop(global_crop=PLAIN, local_crop=PLAIN, local_crops=1)


def small(**numbers) -> LeJEPA:
    return LeJEPA(**{"directions": 16, "hidden": 32, "width": 8, "view": CROPS, **numbers}).sized(8)


def networks(method: LeJEPA):
    torch.manual_seed(0)
    return method.networks(encoders.build("conv", channels=1, image_size=8), FACTS).train()


def told(embeddings: torch.Tensor, batch, clock=CLOCK, **numbers):
    """The objective of networks whose embeddings, (V N, D), are given."""
    net = SimpleNamespace(encoder=lambda images, *_: images.flatten(1), projector=lambda x: embeddings)
    return next(small(**numbers).step(net, batch, clock))


@pytest.fixture
def drawn(monkeypatch):
    """The directions of every call, in order."""
    found = []

    def sigreg(z, directions):
        found.append(directions)
        return SIGREG(z, directions)

    monkeypatch.setattr(losses, "sigreg", sigreg)
    return found


def test_collapse_to_the_origin_costs_its_closed_form(first_batches):
    (_, batch), *_ = first_batches()
    found = told(torch.zeros(96, 8), batch)
    assert found.loss.item() == pytest.approx(0.05 * 0.402048 * 32, rel=1e-5)
    assert found.trivial == pytest.approx(found.loss.item(), rel=1e-5)
    assert found.terms["invariance"] == 0


def test_a_last_layer_of_zeros_has_no_gradient(first_batches):
    clock, batch = first_batches()[0]
    method = small()
    net = networks(method)
    nn.init.zeros_(net.projector[-1].weight)
    nn.init.zeros_(net.projector[-1].bias)
    found = next(method.step(net, batch, clock))
    assert found.loss.item() == pytest.approx(found.trivial, rel=1e-5)
    found.loss.backward()
    assert max(p.grad.abs().max().item() for p in net.encoder.parameters()) == 0


def test_the_loss_is_the_loop_over_views(first_batches, drawn):
    (_, batch), *_ = first_batches()
    z = torch.randn(96, 8)
    found = told(z, batch, regularization=0.1)
    crops = z.split(32)
    center = (crops[0] + crops[1]) / 2
    invariance = sum(((crop - center) ** 2).mean() for crop in crops) / 3
    gaussianity = sum(SIGREG(crop, drawn[0]) for crop in crops) / 3
    assert found.terms["invariance"].item() == pytest.approx(invariance.item(), rel=1e-5)
    assert found.terms["sigreg"].item() == pytest.approx(gaussianity.item(), rel=1e-5)
    assert found.loss.item() == pytest.approx(0.9 * invariance.item() + 0.1 * gaussianity.item(), rel=1e-5)


def test_no_gradient_is_stopped(first_batches):
    """The center moves with the global crops: the invariance of a pair has the gradient of half their difference."""
    (_, batch), *_ = first_batches()
    z = torch.randn(64, 8).requires_grad_()
    crops = views.MultiCrop(global_crop=PLAIN, local_crops=0)
    found = told(z, batch, view=crops)
    (gradient,) = torch.autograd.grad(found.terms["invariance"], z)
    a, b = z.detach().split(32)
    torch.testing.assert_close(gradient, torch.cat([a - b, b - a]) / 2 / (32 * 8))


def test_identical_views_agree(first_batches):
    (clock, batch), *_ = first_batches()
    method = small(view=views.MultiCrop(global_crop=views.View(), local_crop=views.View(), local_crops=1))
    assert next(method.step(networks(method), batch, clock)).terms["invariance"].item() == pytest.approx(0, abs=1e-10)


def test_directions_are_of_unit_length_and_new_in_every_step(first_batches, drawn):
    (_, batch), *_ = first_batches()
    z = torch.randn(96, 8)
    for step in (0, 1, 1):
        told(z, batch._replace(key=batch.key + step), CLOCK._replace(step=step), directions=500)
    first, second, again = drawn[::3]
    assert first.shape == (500, 8)
    torch.testing.assert_close(first.norm(dim=1), torch.ones(500))
    assert first.mean(dim=0).abs().max() < 4 / (8 * 500) ** 0.5
    torch.testing.assert_close(first.T @ first / 500, torch.eye(8) / 8, rtol=0, atol=0.04)
    assert not torch.equal(first, second)
    assert torch.equal(second, again), "they depend on the step alone"
    assert all(torch.equal(drawn[0], other) for other in drawn[1:3]), "all views of a step share them"


def test_there_is_no_teacher_and_the_projector_is_the_authors():
    net = networks(small())
    assert set(dict(net.named_children())) == {"encoder", "projector"}
    kinds = [type(m).__name__ for m in net.projector]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert all(m.bias is not None for m in net.projector if isinstance(m, nn.Linear))


def test_all_parameters_decay_as_in_the_authors_example():
    net, recipe = networks(small()), LeJEPA.recipe
    groups = recipe.parameter_groups(net, recipe.optimizers[""])
    assert [(group["base_decay"], len(group["params"])) for group in groups] == [(0.05, len(list(net.parameters())))]


def test_gaussianity_prevents_the_collapse_of_invariance_alone(trained):
    """Without a teacher and without a stopped gradient. For N = 128, 51 is the value at the origin, 1.05 the floor."""
    numbers = dict(width=16, hidden=64, directions=64)
    alone, whole = (trained(small(**numbers, regularization=part), LeJEPA.small, epochs=5)[-1] for part in (0.0, 0.05))
    assert alone.terms["invariance"] < 0.01
    assert alone.embedding.std(dim=0).mean() < 0.12
    assert alone.terms["sigreg"] > 50
    assert whole.terms["sigreg"] < 10
    assert whole.embedding.std(dim=0).mean() > 0.7
    assert spread(whole.embedding) > 0.9
    assert effective_rank(whole.embedding) > 9
    assert whole.loss < 0.4 * whole.trivial
