from dataclasses import replace

import pytest
import torch
from torch import nn

from sanslabel import encoders
from sanslabel.batch import Facts
from sanslabel.errors import BadInput
from sanslabel.losses import track_hinge
from sanslabel.methods.tracking import Tracking

FACTS = Facts.of_images(samples=64, channels=1, height=8, width=8)
METHOD = replace(Tracking.under(Tracking.small), hidden=32, width=16).sized(8)


def networks(method: Tracking):
    torch.manual_seed(0)
    return method.networks(encoders.build("conv", channels=1, image_size=8), FACTS).train()


def test_collapse_costs_the_margin(first_batches):
    (clock, batch), *_ = first_batches()
    net = networks(METHOD)
    net.projector = nn.Linear(net.encoder.width, 16)
    nn.init.zeros_(net.projector.weight)
    nn.init.ones_(net.projector.bias)
    (objective,) = METHOD.step(net, batch, clock)
    assert objective.loss.item() == pytest.approx(METHOD.margin, rel=1e-6)
    assert objective.trivial == METHOD.margin


def test_negatives_are_random_first_and_half_hard_later(first_batches):
    (clock, batch), *_ = first_batches()
    net, method = networks(METHOD), replace(METHOD, random_start=0.5)
    for step, hard in [(0, 0), (5, 2)]:
        now = clock._replace(step=step, steps=10)
        (objective,) = method.step(net, batch, now)
        a, b = objective.embedding, objective.positive
        expected = track_hinge(a, b, method.margin, hard=hard, key=now.key)
        torch.testing.assert_close(objective.loss, expected)
        assert objective.loss != track_hinge(a, b, method.margin, hard=2 - hard, key=now.key)


def test_patches_of_one_track_are_no_negatives(first_batches):
    (clock, batch), *_ = first_batches()
    net = networks(METHOD)
    (apart,) = METHOD.step(net, batch._replace(group=torch.arange(32)), clock)
    (alone,) = METHOD.step(net, batch, clock)
    torch.testing.assert_close(apart.loss, alone.loss)
    (objective,) = METHOD.step(net, batch._replace(group=torch.zeros(32, dtype=torch.int64)), clock)
    assert objective.loss == 0


def test_bad_values_are_refused():
    with pytest.raises(BadInput, match="margin"):
        Tracking(margin=0.0)
    with pytest.raises(BadInput, match="negatives"):
        Tracking(negatives=0)
