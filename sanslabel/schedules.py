"""Schedules: numbers as functions of the progress of training, float -> float."""

from collections.abc import Sequence
from math import cos, pi, sqrt


def linear(progress: float, start: float, end: float) -> float:
    """Returns a value on a straight line from `start` at progress 0 to `end` at progress 1."""
    return start + (end - start) * progress


def cosine(progress: float, start: float, end: float) -> float:
    """Returns a value on half a period of a cosine, from `start` at progress 0 to `end` at progress 1."""
    return end + (start - end) * (1 + cos(pi * progress)) / 2


def warmup_cosine(step: int, steps: int, warmup: int, final_factor: float = 0.0, warmup_start: float = 0.0) -> float:
    """Returns the factor of the learning rate at a step.

    During the first `warmup` steps it is a line from `warmup_start`, before the first step, to 1. Then it is a cosine
    from 1 to `final_factor`, after the last step. In the code of most authors, warm-up is one step behind: their first
    step has `warmup_start`. The cosine falls in every step; the authors of MoCo, SimSiam and PIRL lower theirs once an
    epoch.
    """
    if step < warmup:
        return linear((step + 1) / warmup, warmup_start, 1.0)
    return cosine((step - warmup) / max(1, steps - warmup), 1.0, final_factor)


def step_decay(progress: float, milestones: Sequence[float]) -> float:
    """Returns 0.1 to the power of the number of milestones, in [0, 1], that the progress has reached."""
    return 0.1 ** sum(progress >= milestone for milestone in milestones)


def inverse_square_root(step: int, warmup: int) -> float:
    """Returns the factor of the learning rate min(s / w, √(w / s)), where s is `step` + 1 and w is `warmup`.

    It rises to 1 at step w, and falls without end. Vaswani et al. 2017, eq. 3; there the peak is 1 / √(width · warmup).
    """
    s, w = step + 1, max(1, warmup)
    return min(s / w, sqrt(w / s))
