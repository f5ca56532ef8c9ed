"""data2vec's oracles, which need no training."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import layer_norm

from sanslabel import encoders, views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.engine import optimize, players_of
from sanslabel.errors import BadInput
from sanslabel.methods.data2vec import Data2Vec

PAPER = Data2Vec(view=views.View())
CLOCK = Clock(seed=0, epoch=0, step=0, steps=10, steps_per_epoch=5)


def net_of(method):
    torch.manual_seed(0)
    return method.networks(encoders.build("vit_micro", channels=1, image_size=8), Facts.of_images(384, 1, 8, 8, 0))


def batch_of(count=8, seed=1):
    index = torch.arange(count)
    images = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return Batch.of_images(images, index, index * 2654435761 % 2**32, index)


def says(net, value):
    torch.nn.init.zeros_(net.head.weight)
    torch.nn.init.constant_(net.head.bias, value)


def test_predictions_of_0_cost_a_quarter_less_what_is_beyond_beta():
    net = net_of(PAPER)
    says(net, 0.0)
    (objective,) = PAPER.step(net, batch_of(), CLOCK)
    assert 0.2 < objective.loss.item() < 0.25
    (objective,) = replace(PAPER, beta=50.0).step(net, batch_of(), CLOCK)  # every difference is below β
    assert objective.loss.item() == pytest.approx(1 / 100, rel=1e-4)
    assert objective.terms["prediction_std"].item() == 0


@pytest.mark.parametrize("averaged", [1, 3, 6])
def test_targets_are_the_teachers_last_blocks_of_the_whole_image(averaged, monkeypatch):
    method, batch, seen = replace(PAPER, averaged=averaged), batch_of(), []
    net = net_of(method)
    monkeypatch.setattr(
        "sanslabel.methods.data2vec.losses.smooth_l1",
        lambda prediction, target, beta: seen.append(target) or prediction.flatten(1).mean(dim=1),
    )
    list(method.step(net, batch, CLOCK))
    masked = views.blockwise(batch.key, (4, 4), round(16 * 120 / 196), 1, 1)
    tokens, blocks = net.teacher.encoder.embed(batch.images().pixels), []
    for block in net.teacher.encoder.blocks:
        tokens = block(tokens)
        blocks.append(
            (tokens - tokens.mean(-1, keepdim=True)) / (tokens.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
        )
    average = sum(blocks[-averaged:]) / averaged
    for n in range(8):
        for m, place in enumerate(masked[n]):
            torch.testing.assert_close(seen[0][n, m], layer_norm(average[n, 1 + place], (128,)), atol=1e-5, rtol=1e-4)
    assert not seen[0].requires_grad


def test_the_student_sees_nothing_of_masked_patches_and_the_teacher_all(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "sanslabel.methods.data2vec.losses.smooth_l1",
        lambda prediction, target, beta: seen.append((prediction, target)) or prediction.flatten(1).mean(dim=1),
    )
    net, batch = net_of(PAPER), batch_of()
    keep = views.other_patches(views.blockwise(batch.key, (4, 4), 10, 1, 1), 16)
    for images in (batch.images().pixels, views.visible(batch.images().pixels, keep, 2)):
        list(PAPER.step(net, batch.with_pixels(images), CLOCK))
    assert torch.equal(seen[0][0], seen[1][0])
    assert not torch.allclose(seen[0][1], seen[1][1])


def test_batch_norm_leaves_no_target_to_places_alone(monkeypatch):
    """Where all images are the same, the paper's targets are numbers that places tell, and these are 0."""
    batch = batch_of()
    same = batch.with_pixels(batch.images().pixels[:1].expand(8, -1, -1, -1))
    for norm, low, high in (("layer", 0.2, 0.25), ("batch", 0.0, 1e-3)):
        method = replace(PAPER, target_norm=norm)
        net = net_of(method)
        says(net, 0.0)
        (objective,) = method.step(net, same, CLOCK)
        assert low <= objective.loss.item() <= high
        assert objective.terms["target_std"].item() == pytest.approx(0, abs=1e-3)
        assert next(method.step(net, batch, CLOCK)).terms["target_std"].item() > 0.05


def test_the_teacher_follows_in_a_line_after_the_update():
    method = replace(PAPER, momentum=0.5, final_momentum=0.9)
    net = net_of(method)
    before = net.teacher.encoder.norm.weight.clone()
    with torch.no_grad():
        net.encoder.norm.weight += 1.0
    records = optimize(method, net, players_of(net, method.small, 8), [(CLOCK._replace(step=5), batch_of())])
    next(records)
    torch.testing.assert_close(
        net.teacher.encoder.norm.weight, torch.lerp(net.encoder.norm.weight, before, 0.7), atol=1e-6, rtol=0
    )


def test_variance_is_watched_only_when_asked_for():
    net = net_of(PAPER)
    plain, asked = (next(replace(PAPER, variance=v).step(net, batch_of(), CLOCK)).loss.item() for v in (0.0, 2.0))
    h = net.encoder.tokens(
        batch_of().images().pixels, masked=views.blockwise(batch_of().key, (4, 4), 10, 1, 1), fill=net.mask()
    )[:, 1:].mean(dim=1)
    hinge = (1 - (h.var(dim=0) + 1e-4).sqrt()).clamp(min=0).mean()
    c = torch.cov(h.T)
    covariance = (c.square().sum() - c.diagonal().square().sum()) / 128
    assert asked - plain == pytest.approx(2 * (hinge + covariance / 25).item(), rel=1e-3)


def test_convnets_are_refused():
    with pytest.raises(BadInput, match="data2vec hides patches"):
        PAPER.networks(encoders.build("conv", channels=1, image_size=8), Facts.of_images(384, 1, 8, 8, 0))


def test_visible_patches_count_only_where_asked(monkeypatch):
    shapes = []
    monkeypatch.setattr(
        "sanslabel.methods.data2vec.losses.smooth_l1",
        lambda prediction, target, beta: shapes.append(prediction.shape) or prediction.flatten(1).mean(dim=1) * 0 + 3.0,
    )
    for weight, patches, loss in ((0.0, [10], 3.0), (0.5, [10, 6], 4.5)):
        shapes.clear()
        method = replace(PAPER, visible=weight)
        (objective,) = method.step(net_of(method), batch_of(), CLOCK)
        assert [shape[1] for shape in shapes] == patches
        assert objective.loss.item() == pytest.approx(loss)


def test_an_unmasked_student_of_the_teachers_weights_predicts_its_last_block(monkeypatch):
    method = replace(PAPER, averaged=1)
    net, batch = net_of(method), batch_of()
    torch.nn.init.eye_(net.head.weight)
    torch.nn.init.zeros_(net.head.bias)
    tokens = net.encoder.tokens
    monkeypatch.setattr(net.encoder, "tokens", lambda images, **masks: tokens(images))
    (objective,) = method.step(net, batch, CLOCK)
    assert objective.loss.item() == pytest.approx(0, abs=1e-9)


def test_what_is_told_of_visible_patches_has_no_gradient():
    net, batch, told = net_of(PAPER), batch_of(), []
    net.head.register_forward_hook(lambda module, args, output: told.append(output) or output.retain_grad())
    next(PAPER.step(net, batch, CLOCK)).loss.backward()
    moved = told[0].grad.abs().sum(dim=2) > 0  # (N, L)
    expected = torch.zeros(8, 16, dtype=torch.bool)
    expected.scatter_(1, views.blockwise(batch.key, (4, 4), 10, 1, 1), True)
    assert torch.equal(moved, expected)
