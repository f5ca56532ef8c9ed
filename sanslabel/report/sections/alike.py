"""The map of the pictures with neighbors and galleries."""

from __future__ import annotations

from collections.abc import Iterator

from sanslabel.errors import SanslabelError
from sanslabel.report.markup import Frame, film, note
from sanslabel.report.neighborhoods import Strip
from sanslabel.report.page import Page
from sanslabel.report.picture_map import AWAY, PictureMap
from sanslabel.report.snapshot import Snapshot


def alike(run: Snapshot, page: Page, content: PictureMap | SanslabelError) -> Iterator[str]:
    """Yields the map of a run with its galleries, or the reason for which there is none."""
    if isinstance(content, SanslabelError):
        yield note(f"No map: {content}")
        return
    if not run.exported:
        yield note(f"The map shows the encoder after step {run.done:,} of {run.folder.steps:,}.")
    yield page.map(content)
    if content.strips:
        yield f"<h3>Nearest frames</h3>{film([_line(content, strip) for strip in content.strips])}"
        yield note(
            f"Each row begins with a frame. The nearest frames follow, at least {AWAY:g} s from it and from each other "
            "where they are of one clip."
        )


def _line(content: PictureMap, strip: Strip) -> list[Frame]:
    """Returns the frames of a strip with their names and times."""
    return [
        Frame(content.thumbnails[row], content.names[row], f"{content.times[row]:.1f} s")
        for row in (strip.frame, *strip.nearest)
    ]
