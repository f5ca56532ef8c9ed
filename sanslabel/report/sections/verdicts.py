"""The verdict on each run, at the head of the page."""

from __future__ import annotations

from html import escape

from sanslabel.report.markup import swatch
from sanslabel.report.snapshot import Snapshot


def verdict_box(run: Snapshot) -> str:
    """Returns the HTML of the verdicts on a run: its training, its use, and its progress if it is unfinished."""
    verdict = run.verdict
    kind = "failed" if verdict.failed else "waiting" if _doubtful(run) else ""
    text = f"<p>{swatch(run.color)}<strong>{escape(run.name)}</strong> {escape(verdict.sentence)}</p>"
    text += "".join(f"<p>{escape(sentence)}</p>" for sentence in run.useful)
    if run.unfinished:
        text += (
            f"<p>This run has not ended: step {run.done:,} of {run.folder.steps:,}. The page shows it up to there.</p>"
        )
    return f'<div class="verdict {kind}">{text}</div>'


def _doubtful(run: Snapshot) -> bool:
    """Returns True if a run that has not failed cannot be called good, since it is unfinished or shows no gain."""
    complete = [m.score for m in run.measurements if m.score.labels_per_class is None]
    over_start = [gain.sign for score in complete for gain in score.gains if not gain.over.startswith("pixels")]
    return run.unfinished or run.verdict.level != "healthy" or max(over_start, default=1) <= 0
