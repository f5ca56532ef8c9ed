"""Timing by turns: machines drift by a fifth within minutes, so what is compared runs side by side, over and over."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from statistics import median, quantiles

import torch

CPU = torch.device("cpu")


def turns(
    sides: Mapping[str, Callable[[], object]],
    device: torch.device = CPU,
    rounds: int = 7,
    at_least: float = 0.3,
    within: Mapping[str, Callable[[], AbstractContextManager[object]]] | None = None,
) -> dict[str, list[float]]:
    """Seconds of a call of each side, turn by turn. A round calls every side in turn, each as often as makes its turn
    take `at_least` seconds, and every other round in reverse; two calls of each before are not counted. A turn runs
    within what `within` names for its side, which begins before the clock and ends after it."""
    calls, around = {}, within or {}
    for name, call in sides.items():
        with around.get(name, nullcontext)():
            call()  # whatever comes with the first
            calls[name] = max(1, round(at_least / max(_taken(call, 1, device), 1e-9)))
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds):
        for name in sides if turn % 2 else reversed(sides):
            with around.get(name, nullcontext)():
                taken[name].append(_taken(sides[name], calls[name], device))
    return taken


def seconds(
    sides: Mapping[str, Callable[[], object]], device: torch.device = CPU, rounds: int = 7, at_least: float = 0.3
) -> dict[str, float]:
    """The medians of `turns`."""
    return {name: median(times) for name, times in turns(sides, device, rounds, at_least).items()}


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """The median between the two that hold half of the values."""
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return low, middle, high


def finish(device: torch.device) -> None:
    """Waits until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _taken(call: Callable[[], object], count: int, device: torch.device) -> float:
    finish(device)
    start = time.perf_counter()
    for _ in range(count):
        call()
    finish(device)
    return (time.perf_counter() - start) / count
