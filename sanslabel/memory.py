"""What a method remembers between steps: modules made of buffers and of weights that no gradient reaches."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn


def teacher_of(student: nn.Module) -> nn.Module:
    """A copy of the student that no gradient reaches; `ema_` lets it follow. It runs in training mode, with BatchNorm
    statistics of its own, as the momentum encoders of MoCo and BYOL do."""
    return deepcopy(student).requires_grad_(False)


@torch.no_grad()
def ema_(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """teacher <- momentum · teacher + (1 - momentum) · student, over the teacher's parameters and the student's of the
    same names: 1 leaves the teacher, 0 copies."""
    names, slow = zip(*teacher.named_parameters(), strict=True)
    torch._foreach_lerp_(slow, [student.get_parameter(name) for name in names], 1 - momentum)
