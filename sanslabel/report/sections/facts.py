"""A table with the settings of the runs, their cost, and their newest figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from sanslabel.errors import SanslabelError
from sanslabel.figures import keys_of
from sanslabel.report.markup import Cell, table
from sanslabel.report.snapshot import Snapshot
from sanslabel.sources import splits
from sanslabel.wording import counted, plural


def facts(runs: Sequence[Snapshot]) -> str:
    """Returns a table with a column for each run, and a line for each fact that any run has."""
    lines = [[title, *(cell(run) for run in runs)] for title, cell in FACTS.items()]
    known = [line for line in lines if any(cell if isinstance(cell, str) else cell.text for cell in line[1:])]
    return table(["", *(Cell(run.name, color=run.color) for run in runs)], known, kind="facts")


def _data(run: Snapshot) -> Cell:
    name, full = run.plan.data_name, ", ".join(run.plan.places)
    full = full if name != full else ""
    return Cell(name, (full,) if full else (), title=full)


def _samples(run: Snapshot) -> str:
    unreadable = len(run.folder.bad_samples())
    return counted(run.plan.samples, run.plan.noun) + (f", {unreadable:,} of them unreadable" if unreadable else "")


def _remarks(run: Snapshot) -> Cell:
    first, *others = run.plan.remarks or ("",)
    return Cell(first, tuple(others))


def _split(run: Snapshot) -> str:
    """Returns the samples that the run was trained on, or "" if the data are gone."""
    if run.plan.held_out:
        return f"trained on all but {counted(run.plan.held_out, f'labeled {run.plan.noun}')}, which are measured"
    try:
        available = splits(run.plan.places)
    except SanslabelError:
        return ""
    if "test" in available:
        return "trained on the train split; the test split is apart"
    return f"trained on all {plural(run.plan.noun)}"


def _size(run: Snapshot) -> str:
    side = run.plan.image_size
    return f"{side} x {side} pixels" if side else ""


def _encoder(run: Snapshot) -> str:
    encoders = run.plan.encoders or {"": run.plan.encoder}
    return " / ".join(str(options.get("name", "")) for options in encoders.values())


def _date(run: Snapshot) -> str:
    file = run.folder.path / "metrics.jsonl"
    return f"{datetime.fromtimestamp(file.stat().st_mtime):%Y-%m-%d %H:%M}" if file.is_file() else ""


def _duration(run: Snapshot) -> str:
    seconds = round(run.folder.seconds)
    minutes, hours = seconds // 60, seconds // 3600
    if not seconds:
        return ""
    return (
        f"{hours} h {minutes % 60} min" if hours else f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"
    )


def _newest(name: str) -> Callable[[Snapshot], str]:
    def cell(run: Snapshot) -> str:
        line = run.lines[-1] if run.lines else {}
        return " / ".join(f"{line[key]:.4g}" for key in keys_of(line, name))

    return cell


FACTS: Mapping[str, Callable[[Snapshot], str | Cell]] = {
    "method": lambda run: run.plan.method,
    "data": _data,
    "samples": _samples,
    "remarks": _remarks,
    "split": _split,
    "image size": _size,
    "encoder": _encoder,
    "steps": lambda run: f"{run.done:,} of {run.folder.steps:,}",
    "epochs": lambda run: f"{run.plan.epochs:,}",
    "batch": lambda run: f"{run.plan.batch:,}",
    "training took": _duration,
    "last step": _date,
    "device": lambda run: f"{run.plan.device}, {run.plan.precision}",
    "loss": _newest("loss"),
    "spread": _newest("embedding_std"),
    "rank": _newest("effective_rank"),
    "seed": lambda run: str(run.plan.seed),
}
"""titles of the lines, and the cell of a run"""
