import pytest
import torch
from torch import nn

from sanslabel.memory import ema_, teacher_of


def test_after_k_steps_the_teacher_has_its_closed_form():
    student = nn.Linear(1, 1)
    nn.init.constant_(student.weight, 1.0)
    teacher = teacher_of(student)
    nn.init.constant_(teacher.weight, 0.0)
    for _ in range(10):
        ema_(teacher, student, 0.99)
    assert teacher.weight.item() == pytest.approx(0.0956179, abs=1e-6)


@pytest.mark.parametrize(("momentum", "follows"), [(1.0, False), (0.0, True)])
def test_momentum_one_stays_and_zero_copies(momentum, follows):
    student = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    teacher = teacher_of(student)
    with torch.no_grad():
        student[0].weight.add_(1.0)
        student[1].running_mean.add_(1.0)
    before = teacher[0].weight.clone()
    ema_(teacher, student, momentum)
    assert torch.equal(teacher[0].weight, student[0].weight if follows else before)
    assert not torch.equal(teacher[1].running_mean, student[1].running_mean), "statistics are each one's own"


def test_a_teacher_shares_nothing_and_learns_nothing():
    student = nn.Linear(2, 2)
    teacher = teacher_of(student)
    assert teacher.training
    assert not any(p.requires_grad for p in teacher.parameters())
    assert teacher.weight.data_ptr() != student.weight.data_ptr()
    assert student.weight.requires_grad
