"""Numbers that change while training goes on: float -> float."""

from collections.abc import Sequence
from math import cos, pi


def linear(progress: float, start: float, end: float) -> float:
    """From `start` at progress 0 to `end` at progress 1, in a straight line."""
    return start + (end - start) * progress


def cosine(progress: float, start: float, end: float) -> float:
    """From `start` at progress 0 to `end` at progress 1, by half a period of a cosine."""
    return end + (start - end) * (1 + cos(pi * progress)) / 2


def warmup_cosine(step: int, steps: int, warmup: int, final: float = 0.0, first: float = 0.0) -> float:
    """A factor of the learning rate for the given step: in a line from `first`, which the step before the run had, to 1
    at the end of the first `warmup` steps, then a cosine from 1 towards `final`, which the step after the last would
    reach."""
    if step < warmup:
        return linear((step + 1) / warmup, first, 1.0)
    return cosine((step - warmup) / max(1, steps - warmup), 1.0, final)


def drops(progress: float, at: Sequence[float]) -> float:
    """A tenth for every part of the run, in [0, 1], that has passed."""
    return 0.1 ** sum(progress >= part for part in at)
