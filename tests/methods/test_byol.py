from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sanslabel import encoders
from sanslabel.batch import Clock, Facts
from sanslabel.engine import optimize, players_of
from sanslabel.methods.byol import BYOL
from sanslabel.recipe import Recipe

FACTS = Facts.of_images(samples=64, channels=1, height=8, width=8, classes=0)


def small(**numbers) -> BYOL:
    return BYOL(**{**BYOL.small.hyperparameters, "hidden": 32, "width": 16, **numbers}).sized(8)


def networks(method: BYOL):
    torch.manual_seed(0)
    return method.networks(encoders.build("conv", channels=1, image_size=8), FACTS).train()


def told(prediction: torch.Tensor, target: torch.Tensor, batch) -> torch.Tensor:
    """The loss of networks that always say the same."""
    branch = SimpleNamespace(encoder=lambda images, *_: images, projector=lambda x: target)
    net = SimpleNamespace(encoder=branch.encoder, projector=lambda x: x, predictor=lambda z: prediction, teacher=branch)
    return next(small().step(net, batch, Clock(0, 0, 0, 10, 5))).loss


def test_the_loss_is_0_for_agreement_4_for_right_angles_and_8_for_opposites(first_batches):
    (_, batch), *_ = first_batches()
    p = torch.randn(32, 6, dtype=torch.float64)
    right = torch.stack([-p[:, 1::2], p[:, 0::2]], dim=2).flatten(1)
    for target, expected in ((p, 0.0), (right, 4.0), (-p, 8.0)):
        assert told(p, target, batch).item() == pytest.approx(expected, abs=1e-12)
        assert told(3 * p, target / 2, batch).item() == pytest.approx(expected, abs=1e-12)


def test_each_view_is_predicted_from_the_other(first_batches):
    (clock, batch), *_ = first_batches()
    method = small()
    net = networks(method)
    with torch.no_grad():
        views = [method.view(batch, stream) for stream in (0, 1)]
        p, q = (net.predictor(net.projector(net.encoder(view))) for view in views)
        t, u = (net.teacher.projector(net.teacher.encoder(view)) for view in views)
        cosines = [torch.cosine_similarity(*pair).mean() for pair in ((p, u), (q, t))]
        loss = next(method.step(net, batch, clock)).loss
    torch.testing.assert_close(loss, 4 - 2 * sum(cosines))


def test_heads_are_the_authors():
    net = networks(small())
    for head in (net.projector, net.predictor, net.teacher.projector):
        assert [type(layer) for layer in head] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
        assert head[0].bias is not None
        assert head[3].bias is None
    assert not hasattr(net.teacher, "predictor")
    full = BYOL()
    assert (full.hidden, full.width, full.momentum) == (4096, 256, 0.996)


def test_the_teacher_has_a_start_of_its_own():
    net = networks(small())
    pairs = [(p, net.get_parameter(name)) for name, p in net.teacher.named_parameters() if p.ndim > 1]
    assert len(pairs) > 4
    assert not any(torch.equal(slow, fast) for slow, fast in pairs)


@pytest.mark.parametrize("momentum", [1.0, 0.9, 0.0])
def test_the_teacher_follows_after_the_update(first_batches, momentum):
    method = small(momentum=momentum)
    net = networks(method)
    start = {name: p.clone() for name, p in net.teacher.named_parameters()}
    next(optimize(method, net, players_of(net, BYOL.small, 32), first_batches()))
    for name, slow in net.teacher.named_parameters():  # the momentum of step 0 is that of the start
        assert slow.grad is None
        torch.testing.assert_close(slow, momentum * start[name] + (1 - momentum) * net.get_parameter(name))


def test_the_momentum_ends_at_one(first_batches):
    """At the middle of the cosine half of its way is done."""
    clock, batch = first_batches()[1]
    assert clock.progress == 0.5
    method = small(momentum=0.5)
    net = networks(method)
    with torch.no_grad():
        start = net.teacher.encoder.stem[0].weight.clone()
        list(method.step(net, batch, clock))
    torch.testing.assert_close(net.teacher.encoder.stem[0].weight, 0.75 * start + 0.25 * net.encoder.stem[0].weight)


def test_the_teacher_normalizes_by_statistics_of_its_own(first_batches):
    method = small(momentum=0.0)
    net = networks(method)
    list(optimize(method, net, players_of(net, BYOL.small, 32), first_batches()))
    ours, theirs = net.encoder.stem[1], net.teacher.encoder.stem[1]
    assert theirs.training
    assert theirs.num_batches_tracked == ours.num_batches_tracked == 4  # two views in each of two steps
    assert not torch.equal(theirs.running_mean, ours.running_mean)


def test_the_paper_s_recipe_leaves_biases_and_norms_alone():
    net = networks(small())
    groups = players_of(net, BYOL.recipe, 4096)[""].optimizer.param_groups
    assert isinstance(BYOL.recipe, Recipe)
    assert {(g["adapt"], g["base_decay"]) for g in groups} == {(True, 1.5e-6), (False, 0.0)}
    assert BYOL.recipe.scale(4096) * BYOL.recipe.optimizer.lr == pytest.approx(3.2)
