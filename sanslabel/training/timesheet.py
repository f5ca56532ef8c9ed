"""The shares of a run's time, and advice if too little of it goes to the network."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from sanslabel.batch import Clock
from sanslabel.device import cores
from sanslabel.memory_limits import device_memory, peak_memory
from sanslabel.run_config import Plan
from sanslabel.sources import Source
from sanslabel.sources.pictures.cache import kinds
from sanslabel.stopwatch import Phase, Stopwatch

PAUSE = 10.0
"""the fewest seconds between entries, so that short epochs share an entry"""
MUCH = 0.15
"""the share of the time above which advice is given; it does not apply to the network"""
NETWORK: tuple[Phase, ...] = ("forward", "backward", "update")


@dataclass(frozen=True)
class Entry:
    """The time of the steps since the entry before."""

    epoch: int
    """the epoch of the last step, 1 for the first"""
    seconds: float
    shares: Mapping[str, float]
    """the shares of the network, of views, of waiting for data and of the rest; their sum is 1"""
    images_per_second: float
    peak_memory: int
    """the most bytes of main memory so far"""
    device_memory: int
    """the most bytes on an accelerator so far; 0 elsewhere"""

    def lines(self, unit: str = "images/s") -> tuple[str, str]:
        """Returns the entry as two lines for a person, of at most 80 characters."""
        names = {"network": "network", "views": "views", "waiting": "waiting for data", "rest": "rest"}
        shares = ", ".join(f"{names[name]} {100 * share:.0f} %" for name, share in self.shares.items())
        memory = f"; peak memory {self.peak_memory / 2**30:.1f} GiB" if self.peak_memory else ""
        memory += f", {self.device_memory / 2**30:.1f} GiB on the device" if self.device_memory else ""
        return f"time: {shares}", f"{self.images_per_second:,.0f} {unit}{memory}"

    @property
    def figures(self) -> dict[str, float]:
        """Returns the entry as figures of a line of metrics.jsonl."""
        shares = {f"share_of_{name}": round(share, 4) for name, share in self.shares.items()}
        return shares | {"peak_memory": self.peak_memory, "device_memory": self.device_memory}


class Timesheet:
    """The entries of a run, measured by a stopwatch. They leave out the first step after a start, which waits for
    worker processes and for all that torch does once."""

    def __init__(self, watch: Stopwatch, plan: Plan, source: Source) -> None:
        self.watch, self.plan, self.source = watch, plan, source
        self.first: tuple[int, float] | None = None
        self.last: tuple[int, float] | None = None
        self.spent: dict[Phase, float] = defaultdict(float)

    @property
    def begun(self) -> bool:
        """Returns True after the first step."""
        return self.last is not None

    def begin(self, clock: Clock) -> None:
        """Begins the first entry. It is called after the first step."""
        self.watch.lap()
        self.first = self.last = (clock.step, time.monotonic())

    def due(self, clock: Clock) -> bool:
        """Returns True if this step ends an epoch, and enough time has passed for an entry."""
        if self.last is None or clock.step == self.last[0] or (clock.step + 1) % clock.steps_per_epoch:
            return False
        return clock.step + 1 == clock.steps or time.monotonic() - self.last[1] >= PAUSE

    def entry(self, clock: Clock) -> Entry:
        """Returns the entry of the steps up to this one."""
        assert self.last is not None
        since, self.last = self.last, (clock.step, time.monotonic())
        lap = self._lap()
        return self._entry(clock, since, lap)

    def total(self, clock: Clock) -> Entry | None:
        """Returns the entry of all steps up to this one, or None if there is only one."""
        self._lap()
        return None if self.first is None or self.first[0] == clock.step else self._entry(clock, self.first, self.spent)

    def _lap(self) -> dict[Phase, float]:
        lap = self.watch.lap()
        for phase, seconds in lap.items():
            self.spent[phase] += seconds
        return lap

    def _entry(self, clock: Clock, since: tuple[int, float], spent: Mapping[Phase, float]) -> Entry:
        (step, then), now = since, time.monotonic()
        network, total = sum(spent.get(phase, 0.0) for phase in NETWORK), sum(spent.values()) or 1.0
        shares = {"network": network / total} | {
            phase: spent.get(phase, 0.0) / total for phase in ("views", "waiting", "rest")
        }
        speed = (clock.step - step) * self.plan.batch / (now - then)
        used = device_memory(torch.device(self.plan.device))
        return Entry(clock.epoch + 1, now - then, shares, speed, peak_memory(), used)

    def advice(self, entry: Entry) -> Iterator[str]:
        """Yields a sentence of advice for each phase, except those of the network, that takes much of the time. An
        entry of less than PAUSE is too short for advice."""
        if entry.seconds < PAUSE:
            return
        cheaper = "" if self.plan.precision == "bfloat16" else ", and --precision bfloat16 makes them cheaper"
        reasons = {"waiting": self._slow_data, "views": SLOW_VIEWS + cheaper, "rest": SLOW_REST}
        if self.plan.image_size <= 1:  # points in a plane are as fast as they can be
            reasons = {"waiting": self._slow_data}
        for name, reason in reasons.items():
            if entry.shares[name] > MUCH:
                yield reason.format(f"{100 * entry.shares[name]:.0f} %")

    @property
    def _slow_data(self) -> str:
        """Returns the advice for a run that waits for data. It depends on where the data are."""
        cached = self.source.pictures is not None and self.source.pictures.cache is not None
        if not self.source.decodes:
            if cached and self.plan.cache == "disk":
                return f"{SLOW_DATA}: keep pictures in main memory (--cache ram), or XDG_CACHE_HOME on a faster disk"
            return f"{SLOW_DATA} although the data are in main memory: other programs may keep the machine busy"
        more = min(max(2, 2 * self.plan.workers), cores())
        ways = [f"decode in more processes (--workers {more})"] if more > self.plan.workers else []
        if cached:
            ways.append("make room for what the cache has left out")
        elif self.plan.epochs > 1 and (choices := kinds()):
            ways.append(f"keep what was decoded (--cache {' or '.join(choices)})")
        return f"{SLOW_DATA}: {', or '.join(ways) or 'copy --data to a faster disk'}"


SLOW_DATA = "waiting for data takes {} of the time"
SLOW_VIEWS = "views take {} of the time: a larger --encoder hides them; hue, blur and more crops cost most"
SLOW_REST = (
    "logging, diagnostics and checkpoints take {} of the time: steps are short beside them; a larger --batch "
    "makes fewer steps, a larger --encoder longer ones, and a faster disk for --out shortens saves"
)
