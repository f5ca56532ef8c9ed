from math import log
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sanslabel.batch import Clock
from sanslabel.methods.rotation import Rotation
from sanslabel.views import RECONSTRUCTION, View


def told(logits, batch, rotations=4):
    """The objective of a network that says these logits of what it is shown, a function of images."""
    net = SimpleNamespace(encoder=lambda images: images, classifier=logits)
    return next(Rotation(view=View(), rotations=rotations).step(net, batch, None))


def test_it_starts_at_ln_4(first_batches):
    (_, batch), *_ = first_batches()
    found = told(lambda images: torch.zeros(len(images), 4), batch)
    assert found.loss.item() == pytest.approx(log(4), rel=1e-6) == pytest.approx(1.386294, abs=1e-6)
    assert found.trivial == log(4)
    assert found.terms["accuracy"] == 0.25, "all four turns of every image are there, none more often"


def test_all_four_turns_of_each_image_are_shown_once(first_batches):
    (_, batch), *_ = first_batches()
    shown = []
    found = told(lambda images: shown.append(images) or torch.zeros(len(images), 4), batch)
    copies = shown[0].unflatten(0, (-1, 4))  # (N, 4, C, S, S)
    view = batch.images().pixels / 255
    for quarters in range(4):
        torch.testing.assert_close(copies[:, quarters], view.rot90(quarters, dims=(2, 3)))
    torch.testing.assert_close(found.embedding, view)


def test_one_rotation_is_drawn_for_each_image_and_belongs_to_it(first_batches):
    (_, batch), *_ = first_batches()
    labels, view = [], batch.images().pixels / 255

    def logits(images):
        rotated = torch.stack([view[-len(images) :].rot90(k, dims=(2, 3)) for k in range(4)], dim=1)  # (N, 4, C, S, S)
        distance = (rotated - images[:, None]).square().flatten(2).sum(dim=2)
        labels.append(distance.argmin(dim=1))
        return -100 * distance

    assert told(logits, batch, rotations=1).terms["accuracy"] == 1
    assert len(labels[0]) == 32
    assert labels[0].bincount(minlength=4).min() > 2
    told(logits, batch.map(lambda tensor: tensor[-8:]), rotations=1)
    assert torch.equal(labels[1], labels[0][-8:])


def test_the_recipe_is_the_references():
    recipe, method = Rotation.recipe, Rotation.under(Rotation.recipe)
    assert method == Rotation(rotations=1, view=RECONSTRUCTION)
    factors = [recipe.lr_factor(Clock(0, epoch, epoch, 105, 1)) for epoch in (0, 29, 30, 59, 60, 89, 90, 99, 100, 104)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4])


def test_who_undoes_the_turn_is_right(first_batches):
    (_, batch), *_ = first_batches()
    view = batch.images().pixels / 255

    def logits(images):
        upright = torch.stack([images.rot90(-k, dims=(2, 3)) for k in range(4)], dim=1)  # (4N, 4, C, S, S)
        return -100 * (upright - view.repeat_interleave(4, dim=0)[:, None]).square().flatten(2).sum(dim=2)

    found = told(logits, batch)
    assert found.terms["accuracy"] == 1
    assert found.loss < 0.01


def test_images_that_look_the_same_from_all_sides_teach_nothing(first_batches):
    """The gradient of a network without opinion is 0: no loss below ln 4 is to be had."""
    (_, batch), *_ = first_batches()
    ring = torch.zeros(8, 8)
    ring[[1, 1, 6, 6], [1, 6, 1, 6]] = 1
    batch = batch.with_pixels(ring.expand(32, 1, 8, 8))
    classifier = nn.Linear(64, 4)
    for scale in (0.0, 1.0):  # no opinion, then any
        with torch.no_grad():
            for p in classifier.parameters():
                p.mul_(scale)
        found = told(lambda images: classifier(images.flatten(1)), batch)
        assert found.loss >= log(4) - 1e-6
        assert found.terms["accuracy"] == 0.25
        (gradient,) = torch.autograd.grad(found.loss, classifier.weight)
        assert (gradient.abs().max() < 1e-6) == (scale == 0)
        nn.init.normal_(classifier.weight)


def test_it_learns_digits(trained):
    objectives = trained(Rotation().sized(8), Rotation.small, epochs=6)
    assert torch.stack([o.terms["accuracy"] for o in objectives[-5:]]).mean() > 0.8
