"""The map of an embedding, its spectrum, and the mistakes of a probe."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sanslabel.errors import SanslabelError
from sanslabel.report.embedding_map import embedding_map
from sanslabel.report.options import Options
from sanslabel.report.page import Page, note
from sanslabel.report.snapshot import Snapshot


def embedding(run: Snapshot, page: Page, options: Options, log: Callable[[str], None]) -> Iterator[str]:
    """Yields the map with its neighbors, and the charts that belong to it."""
    try:
        content = embedding_map(run.folder, options, log)
    except SanslabelError as error:
        yield note(f"No map: {error}")
        return
    if not run.exported:
        yield note(f"The map shows the encoder after step {run.done:,} of {run.folder.steps:,}.")
    yield page.map(content)
    yield page.grid(chart for chart in (content.spectrum,) if chart is not None)
    if content.confusion is not None:
        yield page.figure(content.confusion)
