"""The log of a run: lines of metrics.jsonl, and the messages that it prints while it trains."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from sanslabel.batch import Clock
from sanslabel.console import errors
from sanslabel.distributed import rank, world_size
from sanslabel.engine import Record
from sanslabel.errors import CollapseWarning
from sanslabel.run_config import Plan
from sanslabel.training.journal import Metrics
from sanslabel.training.progress import Show
from sanslabel.training.timesheet import Entry, Timesheet
from sanslabel.training.tracker import Tracker
from sanslabel.verdict import Verdict
from sanslabel.wording import worded

LOG_EVERY = 10
"""steps between lines of metrics.jsonl"""
DENSE_STEPS, SECONDS = 200, 1.0
"""up to this step, every tenth step has a line. Later there is at most one line in SECONDS, since the measurements for
a line take longer than a step of a small network"""


class RunLog:
    """The lines of a run, where its time goes, and a warning for each problem. Only the first process writes."""

    def __init__(
        self, plan: Plan, metrics: Metrics, timesheet: Timesheet, show: Show, track: Tracker, warn_of_collapse: bool
    ) -> None:
        self.plan, self.metrics, self.timesheet, self.show, self.track = plan, metrics, timesheet, show, track
        self.warn_of_collapse, self.last_problem = warn_of_collapse, ""
        self.advised, self.described = False, world_size() == 1 or rank() > 0

    def begin(self, record: Record) -> None:
        """Starts the timesheet after the first step, and prints once how several processes share it, with its
        negatives."""
        if not self.timesheet.begun:
            self.timesheet.begin(record.clock)
        if self.described or not record.objectives:
            return
        self.described = True
        share = f" on {world_size()} processes, {self.plan.batch // world_size():,} each"
        negatives = max((o.negatives or 0 for o in record.objectives), default=0)
        among = f", {negatives:,} negatives for each positive" if negatives else ""
        print(f"{self.plan.batch:,} images a step{share}{among}", file=errors())

    def due(self, clock: Clock) -> bool:
        """Returns True if it is time for a line. Only the first process may return True."""
        done = clock.step + 1
        dense = done % LOG_EVERY == 0 and (done <= DENSE_STEPS or self.metrics.age() >= SECONDS)
        return rank() == 0 and (dense or self.timesheet.due(clock))

    def log(self, record: Record, figures: Mapping[str, Any]) -> Verdict:
        """Logs a line with the figures of a record and the given `figures`. Returns the verdict after this line, and
        warns of a new problem."""
        entry = self.timesheet.entry(record.clock) if self.timesheet.due(record.clock) else None
        self.show(record.clock, self.metrics.add(record, figures if entry is None else {**figures, **entry.figures}))
        if entry is not None:
            self._print_times(entry)
        self.track(self.metrics.recent[-1])
        verdict = self.metrics.verdict()
        if self.warn_of_collapse and verdict.failed and verdict.name != self.last_problem:
            warnings.warn(worded(f"step {record.clock.step + 1}: {verdict.sentence}"), CollapseWarning, stacklevel=4)
        self.last_problem = verdict.name
        return verdict

    def _print_times(self, entry: Entry) -> None:
        """Prints how the time was spent. Advice on how to spend less is printed only once."""
        print(entry.sentence, file=errors())
        advice = [] if self.advised else list(self.timesheet.advice(entry))
        self.advised = self.advised or bool(advice)
        for sentence in advice:  # not a warning: the machine may only have been busy with something else
            print(f"advice: {sentence}", file=errors())
