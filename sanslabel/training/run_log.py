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
from sanslabel.training.journal import Metrics, losses, main_figures
from sanslabel.training.progress import Display, Pace, duration, position
from sanslabel.training.slowdown import Slowdown
from sanslabel.training.timesheet import Entry, Timesheet
from sanslabel.training.tracker import Tracker
from sanslabel.verdict import Verdict
from sanslabel.wording import counted, plural, worded

WIDTH = 80
"""characters of the narrowest terminal"""
LOG_EVERY = 10
"""steps between lines of metrics.jsonl"""
DENSE_STEPS, SECONDS = 200, 1.0
"""up to this step, every tenth step has a line. Later there is at most one line in SECONDS, since the measurements for
a line take longer than a step of a small network"""


class RunLog:
    """The lines of a run, where its time goes, and a warning for each problem. Only the first process writes."""

    def __init__(
        self,
        plan: Plan,
        metrics: Metrics,
        timesheet: Timesheet,
        display: Display,
        track: Tracker,
        warn_of_collapse: bool,
        done: int = 0,
    ) -> None:
        self.plan, self.metrics, self.timesheet, self.display, self.track = plan, metrics, timesheet, display, track
        self.warn_of_collapse, self.last_problem = warn_of_collapse, ""
        self.advised, self.described = False, world_size() == 1 or rank() > 0  # the header says it for one process
        self.unit = f"{plural(plan.noun)}/s"
        self.pace, self.slowdown, self.figures = Pace(done), Slowdown(plan.workers), ""

    def step(self, record: Record) -> None:
        """Follows the time of each step, shows the progress on a terminal, and says once that the run became slow."""
        clock = record.clock
        if not self.timesheet.begun:
            self.timesheet.begin(clock)
            self.figures = "  ".join(main_figures(losses(record)))
        self._describe(record)
        self.pace.step(clock)
        if rank() == 0 and (advice := self.slowdown.advice(clock)):
            self.display.line(worded(f"advice: {advice}"))
        if self.display.bar is not None and self.pace.refresh_due():
            step, left = clock.step + 1, duration(self.pace.seconds_left(clock))
            self.display.bar(step, f"{position(clock)}  step {step:,}/{clock.steps:,}  {left} left  {self.figures}")

    def _describe(self, record: Record) -> None:
        """Prints once how several processes share a step, with its negatives."""
        if self.described or not record.objectives:
            return
        self.described = True
        share = f" on {world_size()} processes, {self.plan.batch // world_size():,} each"
        negatives = max((o.negatives or 0 for o in record.objectives), default=0)
        among = f", {negatives:,} negatives for each positive" if negatives else ""
        print(f"{counted(self.plan.batch, self.plan.noun)} a step{share}{among}", file=errors())

    def due(self, clock: Clock) -> bool:
        """Returns True if it is time for a line. Only the first process may return True."""
        done = clock.step + 1
        dense = done % LOG_EVERY == 0 and (done <= DENSE_STEPS or self.metrics.age() >= SECONDS)
        return rank() == 0 and (dense or self.timesheet.due(clock) or self.pace.line_due(clock))

    def log(self, record: Record, figures: Mapping[str, Any]) -> Verdict:
        """Logs a line with the figures of a record and the given `figures`. Returns the verdict after this line, and
        warns of a new problem."""
        clock = record.clock
        entry = self.timesheet.entry(clock) if self.timesheet.due(clock) else None
        line = self.metrics.add(record, figures if entry is None else {**figures, **entry.figures})
        self.figures = "  ".join(main_figures(line))
        if self.pace.line_due(clock):
            self._print_line(clock, line["images_per_second"])
        if entry is not None:
            self._advise(entry)
        if clock.step + 1 == clock.steps and (total := self.timesheet.total(clock)) is not None:
            for text in total.lines(self.unit):
                self.display.line(text)
        self.track(line)
        verdict = self.metrics.verdict(self.plan.noun)
        if self.warn_of_collapse and verdict.failed and verdict.name != self.last_problem:
            warnings.warn(worded(f"step {clock.step + 1}: {verdict.sentence}"), CollapseWarning, stacklevel=4)
        self.last_problem = verdict.name
        return verdict

    def _print_line(self, clock: Clock, speed: float) -> None:
        """Prints the line that a person follows: epoch, main figures, time left and speed."""
        self.pace.printed()
        last = clock.step + 1 == clock.steps
        left = [] if last else [f"{duration(self.pace.seconds_left(clock))} left"]
        line, speed_text = "  ".join([position(clock), self.figures, *left]), f"  {speed:,.0f} {self.unit}"
        self.display.line(line + speed_text * (len(line + speed_text) <= WIDTH))

    def _advise(self, entry: Entry) -> None:
        """Prints advice on how to spend less time, once."""
        advice = [] if self.advised else list(self.timesheet.advice(entry))
        self.advised = self.advised or bool(advice)
        for sentence in advice:  # not a warning: the machine may only have been busy with something else
            self.display.line(worded(f"advice: {sentence}"))
