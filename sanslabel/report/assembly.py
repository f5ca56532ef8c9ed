"""The sections of a report in their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sanslabel.report import charts
from sanslabel.report.curves import curves
from sanslabel.report.options import Options
from sanslabel.report.page import Page
from sanslabel.report.sections.embedding import embedding
from sanslabel.report.sections.facts import facts
from sanslabel.report.sections.samples import samples
from sanslabel.report.sections.scores import scores
from sanslabel.report.sections.verdicts import verdict_box
from sanslabel.report.sections.views import views
from sanslabel.report.snapshot import Snapshot


def assembled(runs: Sequence[Snapshot], options: Options, log: Callable[[str], None]) -> Page:
    """Returns the page about the runs: sections that compare all runs, and sections about each run."""
    page = Page(", ".join(run.name for run in runs))
    page.head += [verdict_box(run) for run in runs]
    page.add("Runs", facts(runs))
    page.add("Scores", *scores(runs))
    page.add("Training", page.grid(curves(runs)))
    for run in runs:
        suffix = f" of {run.name}" if len(runs) > 1 else ""
        log(f"Drawing the views of {run.name}")
        page.add(f"Views{suffix}", *views(run, page))
        page.add(f"Embedding{suffix}", *embedding(run, page, options, log))
        page.add(f"Samples and energies{suffix}", *samples(run, page, options.seed, log))
    page.add("Stages", page.grid(charts.stages(runs)))
    return page
