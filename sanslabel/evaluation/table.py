"""Scores side by side."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import TYPE_CHECKING

from sanslabel.evaluation.protocols import Score

if TYPE_CHECKING:
    from rich.table import Table


APART = {
    "few": "Linear accuracy with 1 % and 10 % of the labels, in %",
    "retrieval": "Mean average precision in %",
    "finetune": "Accuracy after fine-tuning, in %",
    "cluster": "Clusters against labels, in %",
    "relation": "Do distances follow labels, in %",
    "invariance": "What stays of a changed image (100 x cosine)",
    "transfer": "Linear accuracy on {data}, in %",
    "layers": "",
}
"""protocols with a table of their own, and its title"""


def tables(scores: Sequence[Score]) -> list[Table]:
    """One of what classifies, and one of each protocol that says something else, where there are such scores."""
    found = [table([s for s in scores if s.protocol not in APART])]
    for protocol, title in APART.items():
        of = [s for s in scores if s.protocol == protocol]
        if of and protocol == "layers":
            found.append(layers(of))
        elif of:
            found.append(table(of, title.format(data=of[0].settings.get("data"))))
    return [made for made in found if made.rows]


def table(scores: Sequence[Score], title: str = "") -> Table:
    """A row for each representation, a column for each figure with all labels, then with few; ± is one standard
    deviation over the draws."""
    columns = list(dict.fromkeys((s.labels_per_class or 0, s.protocol, s.metric) for s in scores))
    columns.sort(key=lambda column: column[0])
    cells = {(s.representation, (s.labels_per_class or 0, s.protocol, s.metric)): s for s in scores}
    accuracy = {s.metric for s in scores} == {"accuracy"}
    titles = [heading(*column, alone=bool(title)) for column in columns]
    made = _empty(title or ("Accuracy in %" if accuracy else "In %"), scores, titles)
    for name in _names(scores):
        made.add_row(name, *(_cell(cells.get((name, column))) for column in columns))
    return made


def heading(few: int | None, protocol: str, metric: str, alone: bool) -> str:
    """A column's title; in a table of one protocol the figure is enough."""
    named = "kNN" if protocol == "knn" else protocol
    words = [metric] if alone else [named] if metric == "accuracy" else [named, metric]
    return " ".join(words) + (f", {few} a class" if few else "")


def layers(scores: Sequence[Score]) -> Table:
    """A row for each encoder, a column for each of its stages, and which of them training rows that were held out find
    best."""
    stages = sorted({s.stage or 0 for s in scores})
    made = _empty("Linear accuracy of stages in %", scores, [*map(str, stages), "transfers best"])
    for name in _names(scores):
        of = {s.stage: s for s in scores if s.representation == name}
        best = max(of.values(), key=lambda score: score.settings["held_out_accuracy"]).stage
        made.add_row(name, *(_cell(of.get(stage)) for stage in stages), f"stage {best}")
    return made


def _names(scores: Sequence[Score]) -> list[str]:
    return list(dict.fromkeys(s.representation for s in scores))


def _empty(title: str, scores: Sequence[Score], columns: Sequence[str]) -> Table:
    from rich.table import Table

    if scores:
        title = f"{title} on {scores[0].n_test:,} images ({scores[0].split})"
    made = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="", min_width=len(title))
    made.add_column("representation")
    for name in columns:
        made.add_column(name, justify="right")
    return made


def _cell(score: Score | None) -> str:
    if score is None or isnan(score.value):
        return ""
    return f"{score.value:.2f}" + ("" if score.spread is None else f" ± {score.spread:.2f}")
