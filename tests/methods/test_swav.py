from dataclasses import replace
from math import log
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import normalize

from sanslabel import encoders, views
from sanslabel.batch import Clock, Facts
from sanslabel.diagnostics import spread
from sanslabel.engine import optimize, players_of
from sanslabel.heads import Prototypes
from sanslabel.losses import sinkhorn
from sanslabel.methods.swav import SwAV

FACTS = Facts.of_images(samples=64, channels=1, height=8, width=8, classes=0)
CROPS = replace(views.SWAV, local_crops=3)
LATER = Clock(0, 1, 2, 10, 2)


def small(**numbers) -> SwAV:
    return SwAV(**{"prototypes": 24, "hidden": 32, "width": 16, "view": CROPS, **numbers}).sized(8)


def networks(method: SwAV):
    torch.manual_seed(0)
    return method.networks(encoders.build("conv", channels=1, image_size=8), FACTS).train()


def told(embeddings: torch.Tensor, batch, **numbers):
    """The objective of networks whose embeddings, (V N, D), are given, and their prototypes."""
    torch.manual_seed(1)
    prototypes = Prototypes(embeddings.shape[1], 24)
    net = SimpleNamespace(
        encoder=lambda images, *_: images.flatten(1), projector=lambda x: embeddings, prototypes=prototypes, queues=[]
    )
    return next(small(**numbers).step(net, batch, LATER)), prototypes


def loop(embeddings, prototypes, batch, epsilon=0.05, temperature=0.1):
    """Crop by crop, sample by sample."""
    n = len(batch.images().pixels)
    scores = [normalize(z, dim=1) @ prototypes.weight.T for z in embeddings.split(n)]
    total = 0.0
    for i in (0, 1):
        q = sinkhorn(scores[i], epsilon)
        others = [s for v, s in enumerate(scores) if v != i]
        for s in others:
            for sample in range(n):
                total -= (q[sample] * (s[sample] / temperature).log_softmax(dim=0)).sum() / n / len(others) / 2
    return total


def test_embeddings_that_say_nothing_cost_the_logarithm_of_the_prototypes(first_batches):
    (_, batch), *_ = first_batches()
    found, _ = told(torch.zeros(5 * 32, 16), batch)
    assert found.loss.item() == pytest.approx(log(24))
    assert found.trivial == log(24)
    assert found.terms["usage"].item() == pytest.approx(24, rel=1e-4)


def test_equal_embeddings_have_uniform_codes_and_cost_no_less(first_batches):
    """Why Sinkhorn's codes leave nothing to gain by collapse."""
    (_, batch), *_ = first_batches()
    found, _ = told(torch.randn(16).expand(5 * 32, 16), batch)
    assert found.terms["usage"].item() == pytest.approx(24, rel=1e-4)
    assert found.loss.item() >= log(24)
    assert told(torch.randn(16).expand(5 * 32, 16), batch, codes="softmax")[0].loss.item() < log(24)


def test_the_loss_is_the_loop_over_codes_and_all_other_crops(first_batches):
    (_, batch), *_ = first_batches()
    z = torch.randn(5 * 32, 16).requires_grad_()
    found, prototypes = told(z, batch)
    expected = loop(z, prototypes, batch)
    assert found.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    ours, theirs = (torch.autograd.grad(x, [z, prototypes.weight]) for x in (found.loss, expected))
    for a, b in zip(ours, theirs, strict=True):  # the loop's codes are constants, and so are ours
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


def test_it_costs_at_least_the_entropy_of_the_codes(first_batches):
    (_, batch), *_ = first_batches()
    z = torch.randn(32, 16).repeat(5, 1)
    found, prototypes = told(z, batch, temperature=0.05)
    q = sinkhorn(normalize(z[:32], dim=1) @ prototypes.weight.T)
    assert found.loss.item() >= torch.special.entr(q).sum(dim=1).mean().item()


def test_prototypes_stay_for_an_epoch_then_move_and_keep_unit_length(first_batches):
    method = small()
    net = networks(method)
    weights = []
    for _ in optimize(method, net, players_of(net, SwAV.small, 32), first_batches(2)):
        weights.append(net.prototypes.weight.detach().clone())
        torch.testing.assert_close(weights[-1].norm(dim=1), torch.ones(24))
    torch.testing.assert_close(weights[0], weights[1])
    assert (weights[2] - weights[1]).abs().max() > 1e-4


def test_the_queue_takes_part_once_full_and_late_enough(first_batches):
    method = small(queue=60, queue_epoch=3)
    net = networks(method)
    z = torch.randn(32, 16)
    alone = sinkhorn(net.prototypes(z))
    longer = sinkhorn(net.prototypes(torch.cat([net.queues[1].embeddings, z])))[-32:]
    assert not torch.allclose(alone, longer)
    for epoch, step, expected in ((2, 5, alone), (3, 6, alone), (3, 7, alone), (4, 8, longer)):
        assert torch.equal(method.code(net, z, 1, Clock(0, epoch, step, 100, 2)), expected)
    _, batch = first_batches()[0]
    start = net.queues[0].embeddings.clone()
    assert len(list(method.step(net, batch, Clock(0, 2, 5, 100, 2)))) == 1
    assert torch.equal(net.queues[0].embeddings, start), "it begins to fill in its first epoch"
    step = method.step(net, batch, Clock(0, 3, 6, 100, 2))
    first = next(step).embedding
    assert net.queues[0].cursor == 0
    assert next(step, None) is None
    torch.testing.assert_close(net.queues[0].embeddings[:32], normalize(first.detach(), dim=1))
    assert [len(queue.embeddings) for queue in networks(small(queue=1000)).queues] == [64, 64]
    assert len(networks(small()).queues) == 0


def test_codes_come_from_the_teacher_where_there_is_one(first_batches):
    clock, batch = first_batches()[0]
    method = small(teacher_momentum=0.9)
    net = networks(method)
    assert not [name for name, _ in net.teacher.named_parameters() if name.startswith(("prototypes", "queues"))]
    with torch.no_grad():
        for p in net.teacher.projector.parameters():
            p.zero_()
    found = next(method.step(net, batch, clock))  # a teacher that says nothing: codes are uniform
    scores = net.prototypes(found.embedding)
    assert found.terms["usage"].item() == pytest.approx(24, rel=1e-4)
    assert (scores.std(dim=0) > 0).all()
    assert found.loss.item() > log(24)


def test_there_are_at_most_half_as_many_prototypes_as_samples():
    assert len(networks(small(prototypes=3000)).prototypes.weight) == 32
    assert len(networks(small(prototypes=5)).prototypes.weight) == 5


def test_equal_parts_prevent_the_collapse_that_softmax_codes_bring(trained):
    """With codes of each sample by itself, one prototype takes all and the loss goes to 0."""
    view = views.MultiCrop(global_crop=views.View(crop=(0.5, 1.0)), local_crops=0)
    numbers = dict(prototypes=64, hidden=64, width=32, frozen_epochs=0.0, view=view)
    sharp, balanced = (
        trained(SwAV(**numbers, codes=codes).sized(8), SwAV.small, epochs=4)[-1] for codes in ("softmax", "sinkhorn")
    )
    assert sharp.loss < 0.1
    assert sharp.terms["usage"] < 1.2
    assert spread(sharp.embedding) < 0.5
    assert 0.5 * balanced.trivial < balanced.loss < balanced.trivial - 0.3
    assert balanced.terms["usage"] > 60
    assert spread(balanced.embedding) > 0.7


def test_a_large_epsilon_fails_the_other_way(trained):
    """Codes become uniform, and there is nothing to predict."""
    view = views.MultiCrop(global_crop=views.View(crop=(0.5, 1.0)), local_crops=0)
    method = SwAV(prototypes=64, hidden=64, width=32, frozen_epochs=0.0, epsilon=10.0, view=view).sized(8)
    last = trained(method, SwAV.small, epochs=6)[-1]
    assert last.trivial - 1e-3 < last.loss < last.trivial + 0.1
