"""The sections of a report in their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sanslabel.errors import SanslabelError
from sanslabel.report import charts
from sanslabel.report.mistakes import mistakes
from sanslabel.report.options import Options
from sanslabel.report.page import Page
from sanslabel.report.picture_map import PictureMap, picture_map
from sanslabel.report.sections.alike import alike
from sanslabel.report.sections.facts import facts
from sanslabel.report.sections.samples import samples
from sanslabel.report.sections.scores import scores
from sanslabel.report.sections.training import training
from sanslabel.report.sections.verdicts import verdict_box
from sanslabel.report.sections.views import views
from sanslabel.report.snapshot import Snapshot
from sanslabel.wording import plural


def assembled(runs: Sequence[Snapshot], options: Options, log: Callable[[str], None]) -> Page:
    """Returns the page about the runs: pictures first, then scores, curves, views, samples and settings."""
    page = Page(", ".join(run.name for run in runs))
    page.head += [verdict_box(run) for run in runs]
    several = len(runs) > 1
    maps = {run.name: _map(run, options, log) for run in runs}
    for run in runs:
        title = f"Which {plural(run.plan.noun)} are alike"
        title += f", according to {run.name}" if several else ""
        page.add(title, *alike(run, page, maps[run.name]), color=run.color if several else "")
    page.add("Scores", *scores(runs), page.grid([*_mistakes(runs, options, log), *charts.stages(runs)]))
    spectra = {name: map.spectrum for name, map in maps.items() if isinstance(map, PictureMap) and map.spectrum}
    page.add("Training", *training(runs, page, spectra))
    for run in runs:
        suffix = f" of {run.name}" if several else ""
        log(f"Drawing the views of {run.name}")
        page.add(f"Views{suffix}", *views(run), color=run.color if several else "")
        page.add(
            f"Samples and energies{suffix}", *samples(run, page, options.seed, log), color=run.color if several else ""
        )
    page.add("Runs", facts(runs))
    return page


def _map(run: Snapshot, options: Options, log: Callable[[str], None]) -> PictureMap | SanslabelError:
    """Returns the map of a run, or the reason for which there is none."""
    try:
        return picture_map(run.folder, options, log)
    except SanslabelError as error:
        return error


def _mistakes(runs: Sequence[Snapshot], options: Options, log: Callable[[str], None]) -> list[charts.Chart]:
    """Returns a confusion matrix for each run with labeled data."""
    drawn = []
    for run in runs:
        try:
            content = mistakes(run.folder, options, log)
        except SanslabelError:  # the map states the reason
            continue
        if content is not None:
            chart = charts.confusion(content.classes, content.counts, run.color, content.noun)
            drawn.append(chart._replace(title=f"Mistakes of {run.name}") if len(runs) > 1 else chart)
    return drawn
