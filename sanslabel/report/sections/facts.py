"""A table with the settings of the runs, and their newest figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sanslabel.figures import keys_of
from sanslabel.report.page import table
from sanslabel.report.snapshot import Snapshot

FIGURES = {"loss": "loss", "embedding_std": "spread", "effective_rank": "rank"}
"""figures of the newest line, with the titles of their columns"""


def facts(runs: Sequence[Snapshot]) -> str:
    """Returns a table with a line for each run."""
    head = ["run", "method", "data", "samples", "encoder", "epochs", "batch", "steps", *FIGURES.values(), "seed"]
    return table(head, [list(_cells(run)) for run in runs])


def _cells(run: Snapshot) -> Iterator[str]:
    plan, newest = run.plan, run.lines[-1] if run.lines else {}
    encoders = plan.encoders or {"": plan.encoder}
    names = " / ".join(str(options.get("name", "")) for options in encoders.values())
    yield from (run.name, plan.method, Path(plan.data).name, f"{plan.samples:,}", names)
    yield from (f"{plan.epochs:,}", f"{plan.batch:,}", f"{run.done:,} of {run.folder.steps:,}")
    for name in FIGURES:
        yield " / ".join(f"{newest[key]:.4g}" for key in keys_of(newest, name))
    yield str(plan.seed)
