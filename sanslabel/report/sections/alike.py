"""The map of the pictures with neighbors and galleries."""

from __future__ import annotations

from collections.abc import Iterator

from sanslabel.errors import SanslabelError
from sanslabel.report.markup import note
from sanslabel.report.page import Page
from sanslabel.report.picture_map import PictureMap
from sanslabel.report.snapshot import Snapshot


def alike(run: Snapshot, page: Page, content: PictureMap | SanslabelError) -> Iterator[str]:
    """Yields the map of a run with its galleries, or the reason for which there is none."""
    if isinstance(content, SanslabelError):
        yield note(f"No map: {content}")
        return
    if not run.exported:
        yield note(f"The map shows the encoder after step {run.done:,} of {run.folder.steps:,}.")
    yield page.map(content)
