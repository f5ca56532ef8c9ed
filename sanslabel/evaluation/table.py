"""Scores side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sanslabel.evaluation.protocols import Score

if TYPE_CHECKING:
    from rich.table import Table

_TITLES = {"knn": "kNN", "linear": "linear", "few": "few", "cluster": "cluster", "retrieval": "retrieval"}


def table(scores: Sequence[Score]) -> Table:
    """A row for each representation, a column for each figure with all labels, then with few; ± is one standard
    deviation over the draws."""
    from rich.table import Table

    columns = list(dict.fromkeys((s.labels_per_class or 0, s.protocol, s.metric) for s in scores))
    columns.sort(key=lambda column: column[0])
    cells = {(s.representation, s.labels_per_class or 0, s.protocol, s.metric): s for s in scores}
    made = Table(box=None, pad_edge=False, title_justify="left", title_style="")
    accuracy = {s.metric for s in scores} == {"accuracy"}
    made.title = f"{'Accuracy in' if accuracy else 'In'} % on {scores[0].n_test:,} images ({scores[0].split})"
    made.add_column("representation")
    for few, protocol, metric in columns:
        title = _TITLES[protocol] + (f" {metric}" if metric != "accuracy" else "")
        made.add_column(title + (f", {few} a class" if few else ""), justify="right")
    for name in dict.fromkeys(s.representation for s in scores):
        found = (cells.get((name, *column)) for column in columns)
        made.add_row(name, *("" if score is None else _cell(score) for score in found))
    return made


def _cell(score: Score) -> str:
    return f"{score.value:.2f}" + ("" if score.spread is None else f" ± {score.spread:.2f}")
