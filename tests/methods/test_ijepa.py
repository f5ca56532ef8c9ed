"""I-JEPA's oracles, which need no training."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import layer_norm

from sanslabel import encoders, views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.engine import optimize, players_of
from sanslabel.errors import BadInput
from sanslabel.methods.ijepa import IJEPA

PAPER = IJEPA(view=views.View(), predictor_width=64, predictor_depth=2)
CLOCK = Clock(seed=0, epoch=0, step=3, steps=10, steps_per_epoch=5)
SHAPES = 4, (0.15, 0.2), (0.75, 1.5), (0.85, 1.0)


def net_of(method):
    torch.manual_seed(0)
    return method.networks(encoders.build("vit_micro", channels=1, image_size=8), Facts.of_images(384, 1, 8, 8, 0))


def batch_of(count=8, seed=1):
    index = torch.arange(count)
    images = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return Batch.of_images(images, index, index * 2654435761 % 2**32, index)


@pytest.fixture
def seen(monkeypatch):
    """The predictions and targets that reach the loss."""
    found = []
    monkeypatch.setattr(
        "sanslabel.methods.ijepa.losses.smooth_l1",
        lambda prediction, target, beta: found.append((prediction, target)) or prediction.flatten(1).mean(dim=1),
    )
    return found


def test_predictions_of_0_cost_half_a_mean_square_at_large_beta():
    method = replace(PAPER, beta=50.0)
    net = net_of(method)
    torch.nn.init.zeros_(net.predictor.head.weight)
    (objective,) = method.step(net, batch_of(), CLOCK)
    assert objective.loss.item() == pytest.approx(1 / 100, rel=1e-3)
    assert objective.terms["prediction_std"].item() == 0


def test_each_block_is_predicted_by_itself_from_the_context_alone(seen):
    net, batch = net_of(PAPER), batch_of()
    list(PAPER.step(net, batch, CLOCK))
    context, targets = views.multiblock(batch.key, CLOCK.key, (4, 4), *SHAPES, stream=1)
    net = net_of(PAPER)  # as it was before the teacher followed
    tokens = net.encoder.tokens(views.visible(batch.images().pixels, context, 2), context)[:, 1:]
    whole = net.teacher.encoder.tokens(batch.images().pixels)[:, 1:]
    prediction, target = (x.unflatten(1, targets.shape[1:]) for x in seen[0])  # (N, T, M, D)
    for t in range(4):
        told = net.predictor(tokens, context, targets[:, t], (4, 4))
        torch.testing.assert_close(prediction[:, t], told, atol=1e-5, rtol=1e-4)
        for n in range(8):
            torch.testing.assert_close(target[n, t], layer_norm(whole[n, targets[n, t]], (128,)), atol=1e-5, rtol=1e-4)
    assert not target.requires_grad


def test_batch_norm_leaves_no_target_to_places_alone(seen):
    """Where all images are the same, the paper's targets are numbers that places tell, and these are 0."""
    batch = batch_of()
    same = batch.with_pixels(batch.images().pixels[:1].expand(8, -1, -1, -1))
    for norm in ("layer", "batch"):
        (objective,) = replace(PAPER, target_norm=norm).step(net_of(PAPER), same, CLOCK)
        assert objective.terms["target_std"].item() == pytest.approx(0, abs=1e-3)
    (_, by_layer), (_, by_batch) = seen
    assert by_layer.std() > 0.9
    assert by_batch.abs().max() < 1e-2


def test_the_teacher_follows_in_a_line_after_the_update():
    method = replace(PAPER, momentum=0.5, final_momentum=0.9)
    net = net_of(method)
    before = net.teacher.encoder.norm.weight.clone()
    with torch.no_grad():
        net.encoder.norm.weight += 1.0
    next(optimize(method, net, players_of(net, method.small, 8), [(CLOCK._replace(step=5), batch_of())]))
    torch.testing.assert_close(
        net.teacher.encoder.norm.weight, torch.lerp(net.encoder.norm.weight, before, 0.7), atol=1e-6, rtol=0
    )


def test_the_teacher_is_what_is_exported_first():
    net = net_of(PAPER)
    assert list(PAPER.encoders(net)) == ["teacher", "student"]
    assert PAPER.encoders(net)["teacher"].config["pool"] == "mean"
    assert not net.encoder.pos_embed.requires_grad


def test_masks_are_alike_on_all_processes():
    """Each part of a batch has the masks that it has in the whole: sizes are the step's, places the sample's."""
    key = batch_of().key
    whole = views.multiblock(key, CLOCK.key, (4, 4), *SHAPES, stream=1)
    parts = [views.multiblock(part, CLOCK.key, (4, 4), *SHAPES, stream=1) for part in key.chunk(2)]
    for one, two in zip(whole, map(torch.cat, zip(*parts, strict=True)), strict=True):
        assert torch.equal(one, two)


def test_convnets_are_refused():
    with pytest.raises(BadInput, match="I-JEPA hides patches"):
        PAPER.networks(encoders.build("conv", channels=1, image_size=8), Facts.of_images(384, 1, 8, 8, 0))


def test_a_prediction_that_is_the_target_costs_nothing(seen, monkeypatch):
    net, batch = net_of(PAPER), batch_of()
    list(PAPER.step(net, batch, CLOCK))
    _, target = seen[0]  # (N, T M, D)
    monkeypatch.undo()
    net = net_of(PAPER)
    monkeypatch.setattr(net.predictor, "forward", lambda *_: target.unflatten(1, (4, -1)).flatten(0, 1))
    (objective,) = PAPER.step(net, batch, CLOCK)
    assert objective.loss.item() == pytest.approx(0, abs=1e-9)
