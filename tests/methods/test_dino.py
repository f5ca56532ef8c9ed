from dataclasses import replace
from math import log
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sanslabel import encoders, views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.engine import optimize, players_of
from sanslabel.methods.dino import DINO
from sanslabel.methods.method import Objective

FACTS = Facts.of_images(samples=64, channels=1, height=8, width=8, classes=0)
GLOBAL = views.MultiCrop(global_crop=replace(views.SIMCLR, crop=(0.4, 1.0)), local_crops=0)
LITTLE = dict(outputs=24, hidden=32, bottleneck=16)


def small(**numbers) -> DINO:
    return DINO(**{**DINO.small.hyperparameters, **LITTLE, **numbers}).sized(8)


def networks(method: DINO, encoder: str = "conv"):
    torch.manual_seed(0)
    return method.networks(encoders.build(encoder, channels=1, image_size=8), FACTS).train()


def told(student: torch.Tensor, teacher: torch.Tensor, center: torch.Tensor, batch, epoch=1, **numbers) -> Objective:
    """What comes of networks whose logits are always the same. student, teacher, center: (K,)."""

    def branch(logits):
        parts = dict(encoder=lambda images, *_: images.flatten(1)[:, :4], projector=lambda x: x)
        return SimpleNamespace(**parts, directions=lambda z, frozen=False: logits.expand(len(z), -1))

    net = branch(student)
    net.teacher, net.center = branch(teacher), SimpleNamespace(mean=center)
    return next(small(**numbers).step(net, batch, Clock(0, epoch, 2, 10, 2)))


def test_a_uniform_student_costs_the_logarithm_of_the_outputs(first_batches):
    (_, batch), *_ = first_batches()
    assert told(torch.zeros(24), torch.randn(24), torch.randn(24), batch).loss.item() == pytest.approx(log(24))
    assert told(torch.zeros(24), torch.randn(24), torch.randn(24), batch).trivial == log(24)


def test_logits_at_the_center_make_a_uniform_target(first_batches):
    (_, batch), *_ = first_batches()
    logits = torch.randn(24)
    found = told(torch.randn(24), logits, logits, batch)
    assert found.terms["teacher_entropy"].item() == pytest.approx(log(24), rel=1e-5)
    assert found.terms["usage"].item() == pytest.approx(24, rel=1e-4)


def test_a_cold_teacher_points_at_its_largest_logit(first_batches):
    (_, batch), *_ = first_batches()
    student, teacher = torch.randn(2, 24).unbind()
    cold = dict(first_teacher_temperature=1e-4, teacher_temperature=1e-4)
    found = told(student, teacher, torch.zeros(24), batch, **cold)
    assert found.terms["teacher_entropy"].item() == pytest.approx(0, abs=1e-6)
    expected = -(student / 0.1).log_softmax(dim=0)[teacher.argmax()]
    assert found.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert found.terms["kl"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_teacher_s_temperature_rises_by_epochs(first_batches):
    (_, batch), *_ = first_batches()
    logits = 0.1 * torch.randn(24)
    long = [(0, 0.04, 31), (10, 0.05, 31), (30, 0.07, 31), (31, 0.07, 31)]
    for epoch, temperature, over in (*long, (0, 0.07, 0), (0, 0.04, 1), (1, 0.07, 1), (1, 0.07, 2)):
        target = (logits / temperature).softmax(dim=0)
        warming = dict(first_teacher_temperature=0.04, teacher_temperature=0.07, sharp_epochs=over)
        found = told(logits, logits, torch.zeros(24), batch, epoch, **warming)
        expected = torch.special.entr(target).sum().item()
        assert found.terms["teacher_entropy"].item() == pytest.approx(expected, rel=1e-5)


def test_the_student_sees_all_crops_and_the_teacher_the_global_ones(first_batches):
    (clock, batch), *_ = first_batches()
    images = torch.rand(32, 1, 16, 16)
    method = small(view=replace(small().view, size=16, local_size=8, local_crops=3))
    net, passed = networks(method), {"student": [], "teacher": []}
    for name, encoder in (("student", net.encoder), ("teacher", net.teacher.encoder)):
        encoder.register_forward_pre_hook(lambda _, args, to=passed[name]: to.append(tuple(args[0].shape)))
    list(method.step(net, batch.with_pixels(images), clock))
    assert passed == {"student": [(64, 1, 16, 16), (96, 1, 8, 8)], "teacher": [(64, 1, 16, 16)]}


def test_the_directions_stay_during_the_first_epoch(first_batches):
    method = small(frozen_epochs=1, view=GLOBAL)
    net = networks(method)
    start, moved = net.directions.weight.clone(), []
    for record in optimize(method, net, players_of(net, DINO.small, 32), first_batches(2)):
        assert (net.directions.weight.grad is None) == (record.clock.epoch == 0)
        moved.append(not torch.equal(net.directions.weight, start))
    assert moved == [False, False, True, True]


@pytest.mark.parametrize("centering", [True, False])
def test_center_and_teacher_are_written_after_the_update(first_batches, centering):
    method = small(centering=centering, view=GLOBAL, momentum=0.75)
    net = networks(method)
    (clock, batch), *_ = first_batches()
    logits = []
    net.teacher.directions.register_forward_hook(lambda module, args, output: logits.append(output))
    start = net.teacher.directions.weight.clone()
    steps = method.step(net, batch, clock)
    next(steps)
    assert net.center.mean.abs().max() == 0
    with torch.no_grad():
        net.directions.weight.add_(1.0)  # the update
    assert next(steps, None) is None
    expected = 0.1 * logits[0].mean(dim=0) if centering else torch.zeros(24)
    torch.testing.assert_close(net.center.mean, expected)
    torch.testing.assert_close(net.teacher.directions.weight, start + 0.25)


def test_the_teacher_starts_as_a_copy_and_is_what_a_run_is_for():
    net = networks(small())
    for name, slow in net.teacher.named_parameters():
        assert torch.equal(slow, net.get_parameter(name))
        assert not slow.requires_grad
    assert list(small().encoders(net)) == ["teacher", "student"]
    assert small().encoders(net)["teacher"] is net.teacher.encoder


def test_head_views_and_recipe_are_the_authors():
    method = DINO()
    head = replace(method, outputs=8).networks(encoders.build("vit_micro", channels=1, image_size=8), FACTS).projector
    assert [type(layer) for layer in head] == [nn.Linear, nn.GELU, nn.Linear, nn.GELU, nn.Linear]
    assert [m.out_features for m in head if isinstance(m, nn.Linear)] == [2048, 2048, 256]
    for linear in (m for m in head if isinstance(m, nn.Linear)):
        assert linear.weight.std().item() == pytest.approx(0.02, rel=0.02)
        assert not linear.bias.any()
    images = torch.zeros(1, 3, 224, 224, dtype=torch.uint8)
    index = torch.zeros(1, dtype=torch.int64)
    crops = method.view.inputs(Batch.of_images(images, index, index, index))
    assert [crop.images.shape[-1] for crop in crops] == [224] * 2 + [96] * 8
    assert DINO.recipe.clip == 3.0
    assert DINO.recipe.clip_each
    decays = [DINO.recipe.decay(Clock(0, 0, step, 100, 10), 0.04) for step in (0, 50, 100)]
    assert decays == pytest.approx([0.04, 0.22, 0.4])


@pytest.mark.parametrize(
    ("numbers", "end"),
    [
        ({}, "alive"),
        ({"centering": False}, "one output"),
        ({"first_teacher_temperature": 0.5, "teacher_temperature": 0.5}, "uniform"),
    ],
    ids=["both", "no centering", "no sharpening"],
)
def test_it_collapses_one_way_without_centering_and_the_other_without_sharpening(trained, numbers, end):
    """What the teacher's assignment says of an image, in nats: ln(usage) less the entropy of a single target."""
    method = small(
        **{
            **dict(view=GLOBAL, outputs=32, hidden=128, bottleneck=64, momentum=0.9, frozen_epochs=0),
            **dict(first_teacher_temperature=0.02, teacher_temperature=0.02),
            **numbers,
        }
    )
    *_, last = trained(method, replace(DINO.small, warmup=0.0, final_lr_factor=1.0), epochs=6)
    entropy = last.terms["teacher_entropy"].item()
    information = log(last.terms["usage"].item()) - entropy
    if end == "alive":
        assert 0.5 < entropy < 2.8
        assert information > 0.7
    else:
        assert information < 0.1
        assert entropy == pytest.approx(0 if end == "one output" else log(32), abs=0.1)
        assert last.loss.item() == pytest.approx(0 if end == "one output" else last.trivial, abs=0.1)
