"""The curves of training: the four that matter most, and the others folded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sanslabel.report import charts
from sanslabel.report.charts import Chart
from sanslabel.report.curves import curves, first_figures, other_figures
from sanslabel.report.markup import details
from sanslabel.report.page import Page
from sanslabel.report.snapshot import Snapshot


def training(runs: Sequence[Snapshot], page: Page, spectra: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """Yields curves of all runs.

    spectra: singular values of the representations, by the name of the run.
    """
    yield page.grid(curves(runs, first_figures(runs)))
    others = list(_others(runs, spectra))
    yield details(f"{len(others)} more curves, for people who know the field", page.grid(others))


def _others(runs: Sequence[Snapshot], spectra: Mapping[str, Sequence[float]]) -> Iterator[Chart]:
    yield from curves(runs, other_figures(runs))
    if spectra:
        yield charts.spectra(runs, spectra)
    for run in runs:
        newest = run.lines[-1] if run.lines else {}
        if isinstance(values := newest.get("kl_by_dimension"), list) and (nats := [x for x in values if x is not None]):
            of_run = f" of {run.name}" if len(runs) > 1 else ""
            yield charts.bars(f"Information in each code dimension{of_run}", nats, "nats", run.color)
