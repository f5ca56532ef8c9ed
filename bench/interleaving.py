"""Interleaved timing: machines drift by a fifth within minutes, so calls that are compared run by turns in rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from statistics import median, quantiles

import torch

CPU = torch.device("cpu")


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    device: torch.device = CPU,
    rounds: int = 7,
    at_least: float = 0.3,
    contexts: Mapping[str, Callable[[], AbstractContextManager[object]]] | None = None,
) -> dict[str, list[float]]:
    """Returns the seconds that each call takes, one value for each round.

    A round times all calls one after the other, and every other round in reverse order. Each is repeated as often as
    takes `at_least` seconds. Two repetitions before that do not count. contexts: entered before the clock starts and
    left after it stops, by the call's name.
    """
    counts, context_of = {}, contexts or {}
    for name, call in calls.items():
        with context_of.get(name, nullcontext)():
            call()  # the first call may compile, allocate or read files
            counts[name] = max(1, round(at_least / max(_seconds(call, 1, device), 1e-9)))
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        for name in calls if number % 2 else reversed(calls):
            with context_of.get(name, nullcontext)():
                seconds[name].append(_seconds(calls[name], counts[name], device))
    return seconds


def median_seconds(
    calls: Mapping[str, Callable[[], object]], device: torch.device = CPU, rounds: int = 7, at_least: float = 0.3
) -> dict[str, float]:
    """Returns the median of the rounds of `interleaved` for each call."""
    return {name: median(values) for name, values in interleaved(calls, device, rounds, at_least).items()}


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Returns the first quartile, the median and the third quartile."""
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return low, middle, high


def finish(device: torch.device) -> None:
    """Waits until the device has finished all of its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _seconds(call: Callable[[], object], count: int, device: torch.device) -> float:
    """Returns the mean seconds of `count` calls."""
    finish(device)
    start = time.perf_counter()
    for _ in range(count):
        call()
    finish(device)
    return (time.perf_counter() - start) / count
