"""Timing by turns: machines drift by a fifth within minutes, so what is compared runs side by side, over and over."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median


def seconds(sides: Mapping[str, Callable[[], object]], rounds: int = 7, at_least: float = 0.3) -> dict[str, float]:
    """The median seconds of a call of each side. A round calls every side in turn, each as often as makes its turn
    take `at_least` seconds, and every other round in reverse; a call of each before is not counted."""
    calls = {}
    for name, call in sides.items():
        call()  # whatever comes with the first
        start = time.perf_counter()
        call()
        calls[name] = max(1, round(at_least / max(time.perf_counter() - start, 1e-9)))
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds):
        for name in sides if turn % 2 else reversed(sides):
            start = time.perf_counter()
            for _ in range(calls[name]):
                sides[name]()
            taken[name].append((time.perf_counter() - start) / calls[name])
    return {name: median(times) for name, times in taken.items()}
