"""What is watched of networks: how they grew, and whether a teacher is its student."""

import pytest
import torch
from torch import nn

from sanslabel.memory import teacher_of
from sanslabel.methods.method import Networks
from sanslabel.training.weight_monitor import WeightMonitor, shares_weights


def test_a_copy_is_a_teacher_and_the_student_itself_is_none():
    student = nn.Linear(3, 3)
    net = Networks(encoder=student)
    assert not shares_weights(net), "there is no teacher"
    net.teacher = teacher_of(net)
    assert not shares_weights(net)
    net.teacher = Networks(encoder=student)
    assert shares_weights(net)


def test_one_weight_in_common_is_found():
    net = Networks(encoder=nn.Linear(3, 3))
    net.teacher = teacher_of(net)
    net.teacher.encoder.bias.data = net.encoder.bias.data
    assert shares_weights(net)


def test_growth_is_of_the_norm_of_what_is_trained():
    class Player:
        class optimizer:
            param_groups = [{"lr": 0.3}]  # noqa: RUF012

    net = Networks(encoder=nn.Linear(4, 4))
    net.teacher = teacher_of(net)
    watch = WeightMonitor(net, {"": Player})
    with torch.no_grad():
        for parameter in net.encoder.parameters():
            parameter.mul_(3)
        net.teacher.encoder.weight.mul_(100)
    figures = watch.figures()
    assert figures["weight_growth"] == pytest.approx(3)
    assert figures["learning_rate"] == 0.3
    assert figures["shared_teacher"] is False
