"""A check of whether a run has become much slower, for example since other programs keep the machine busy."""

from __future__ import annotations

import time

from sanslabel.batch import Clock

WINDOW = 60.0
"""seconds over which speeds are averaged; the first window is the measure for all others"""
SLOWER = 3.0
"""how many times slower than in the first window a run must be"""


class Slowdown:
    """The speed of a run in its first minute and in the last full one. The first step does not count."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.window: tuple[int, float] | None = None
        self.first: float | None = None
        self.reported = False

    def advice(self, clock: Clock) -> str:
        """Returns a sentence, once, if the last minute was three times slower than the first, and else "". It is called
        after each step."""
        now = time.monotonic()
        if self.window is None:
            self.window = (clock.step, now)
        step, begin = self.window
        if now - begin < WINDOW or self.reported:
            return ""
        self.window, seconds_per_step = (clock.step, now), (now - begin) / (clock.step - step)
        if self.first is None:
            self.first = seconds_per_step
        if seconds_per_step < SLOWER * self.first:
            return ""
        self.reported = True
        fewer = f", or continue with fewer than {self.workers} --workers" if self.workers > 1 else ""
        return (
            f"the run is {seconds_per_step / self.first:.1f} times slower than in its first minute: end other programs "
            f"that keep the machine busy{fewer}"
        )
