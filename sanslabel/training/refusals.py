"""Refused steps: steps whose loss or gradient was not finite."""

from __future__ import annotations

from pathlib import Path

from sanslabel.distributed import gather
from sanslabel.engine import Record
from sanslabel.errors import NotFinite
from sanslabel.sources import Source
from sanslabel.training.journal import NotFiniteSteps

LIMIT = 3
"""steps in a row, or saves in a row, whose failure stops the run"""


class Refusals:
    """A counter of refused steps in a row. not_finite.jsonl lists the samples of these steps."""

    def __init__(self, run: Path, source: Source, journal: NotFiniteSteps, in_a_row: int = 0) -> None:
        self.run, self.source, self.journal, self.in_a_row = run, source, journal, in_a_row

    @classmethod
    def resumed(cls, run: Path, source: Source, step: int) -> Refusals:
        """Cuts not_finite.jsonl back to the lines up to a step, and returns the refusals in them."""
        journal = NotFiniteSteps.resumed(run / "not_finite.jsonl", step)
        return cls(run, source, journal, journal.in_a_row(step))

    def count(self, record: Record) -> None:
        """Counts a step. Raises NotFinite at the third refused step in a row."""
        self.in_a_row = self.in_a_row + 1 if record.refused else 0
        if record.refused:
            index = gather(record.batch.index).tolist()
            self.journal.add(record.clock.step + 1, [self.source.id(i) for i in index])
        if self.in_a_row == LIMIT:
            raise NotFinite(
                f"{self.run}: the loss or its gradient was not finite for {LIMIT} steps in a row, up to step "
                f"{record.clock.step + 1}; start again with a lower --lr. The last good checkpoint is kept, and"
                f" {self.journal.path} names the samples of those steps."
            )
