"""The verdict on each run, at the head of the page."""

from __future__ import annotations

from html import escape

from sanslabel.report.markup import swatch
from sanslabel.report.snapshot import Snapshot


def verdict_box(run: Snapshot) -> str:
    """Returns the HTML of the verdict on a run, with the run's progress if it is unfinished."""
    verdict = run.verdict
    kind = "failed" if verdict.failed else "waiting" if run.unfinished or verdict.name != "healthy" else ""
    text = f"<p>{swatch(run.color)}<strong>{escape(run.name)}</strong> {escape(verdict.sentence)}</p>"
    if run.unfinished:
        text += (
            f"<p>This run has not ended: step {run.done:,} of {run.folder.steps:,}. The page shows it up to there.</p>"
        )
    return f'<div class="verdict {kind}">{text}</div>'
