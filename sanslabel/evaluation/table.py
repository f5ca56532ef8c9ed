"""Scores as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import TYPE_CHECKING

from sanslabel.evaluation.protocols import names, protocol_class
from sanslabel.scores import BALANCED, LARGEST_CLASS, Gain, Score, measured_samples

if TYPE_CHECKING:
    from rich.table import Table


def title_of(protocol: str) -> str:
    """Returns the title of a protocol's own table. It is empty for a protocol that shares a table, or is not known
    here."""
    return protocol_class(protocol).title if protocol in names() else ""


def heading(few: int | None, protocol: str, metric: str, alone: bool, scores: Sequence[Score] = ()) -> str:
    """Returns the title of a column; in a table of one protocol, the metric is enough.

    scores: the scores of the column. "≤10 a class" says that some classes had fewer labels, see `few_labels_note`.
    """
    name = (protocol_class(protocol).heading if protocol in names() else "") or protocol
    words = [metric] if alone else [name] if metric in ("accuracy", BALANCED) else [name, metric]
    at_most = "≤" * any("fewest_labels" in score.settings for score in scores)
    return " ".join(words) + (f", {at_most}{few} a class" if few else "")


def few_labels_note(scores: Sequence[Score]) -> str:
    """Returns a sentence with the number of labels where some classes had fewer than were to be drawn, or ""."""
    short = {s.labels_per_class: s.n_train for s in scores if "fewest_labels" in s.settings}
    return " ".join(f"≤{few} a class: {n:,} labels, since some classes have fewer." for few, n in short.items())


def tables(scores: Sequence[Score]) -> list[Table]:
    """Returns the table that protocols share, and one for each protocol that has its own. Gains follow each of them,
    and balanced accuracy."""
    titles = {score.protocol: title_of(score.protocol) for score in scores}
    shared = [score for score in scores if not titles[score.protocol]]
    balanced = [score for score in shared if score.metric == BALANCED]
    shared = [score for score in shared if score.metric != BALANCED]
    made = [table(shared), gain_table(shared), table(balanced, "Balanced accuracy in %", alone=False)]
    for protocol, title in titles.items():
        if title:
            measured = [score for score in scores if score.protocol == protocol]
            title = title.format(data=measured[0].settings.get("data"))
            staged = all(score.stage is not None for score in measured)
            made += [stage_table(measured, title)] if staged else [table(measured, title), gain_table(measured, title)]
    return [table for table in made if table.rows]


def table(scores: Sequence[Score], title: str = "", alone: bool | None = None) -> Table:
    """Returns a table with a row for each representation and a column for each figure, first with all labels, then with
    few. ± is one standard deviation over the draws.

    alone: whether the scores are those of one protocol, by default if there is a title.
    """
    columns = list(dict.fromkeys(map(_column, scores)))
    columns.sort(key=lambda column: column[0])
    cells = {(s.representation, _column(s)): s for s in scores}
    accuracy = {s.metric for s in scores} == {"accuracy"}
    by_column = {column: [score for (_, of), score in cells.items() if of == column] for column in columns}
    alone = bool(title) if alone is None else alone
    headings = [heading(*column, alone, by_column[column]) for column in columns]
    made = _empty(title or ("Accuracy in %" if accuracy else "In %"), scores, headings)
    made.caption = few_labels_note(scores) or None
    for name in _representations(scores):
        made.add_row(name, *(_cell(cells.get((name, column))) for column in columns))
    return made


def gain_table(scores: Sequence[Score], title: str = "") -> Table:
    """Returns a table of the gains of trained encoders, with 95 % intervals: a row for each column of `table`, and a
    column for each baseline."""
    gains = {(s.representation, gain.over, _column(s)): gain for s in scores for gain in s.gains}
    figures = sorted(dict.fromkeys(figure for _, _, figure in gains), key=lambda figure: figure[0])
    pairs = list(dict.fromkeys((name, over) for name, over, _ in gains))
    several = len({name for name, _ in pairs}) > 1
    headings = [f"{name} over {over}" if several else f"over {over}" for name, over in pairs]
    made = _empty("Gain of the trained encoder in points, and 95 % interval", [], headings, first="")
    for figure in figures:
        used = [score for score in scores if _column(score) == figure]
        made.add_row(heading(*figure, bool(title), used), *(_gain(gains.get((*pair, figure))) for pair in pairs))
    return made


def stage_table(scores: Sequence[Score], title: str) -> Table:
    """Returns a table with a row for each encoder and a column for each stage. The last column names the stage with the
    best accuracy on held-out training samples."""
    stages = sorted({s.stage or 0 for s in scores})
    made = _empty(title, scores, [*map(str, stages), "transfers best"])
    for name in _representations(scores):
        by_stage = {s.stage: s for s in scores if s.representation == name}
        best = max(by_stage.values(), key=lambda score: score.settings.get("held_out_accuracy", score.value)).stage
        made.add_row(name, *(_cell(by_stage.get(stage)) for stage in stages), f"stage {best}")
    return made


def _column(score: Score) -> tuple[int, str, str]:
    """Returns the key of the column that a score stands in: labels of each class or 0 for all, protocol and metric."""
    return score.labels_per_class or 0, score.protocol, score.metric


def _representations(scores: Sequence[Score]) -> list[str]:
    """Returns the names of the representations, in the order of the scores, after the largest class."""
    return sorted(dict.fromkeys(s.representation for s in scores), key=lambda name: name != LARGEST_CLASS)


def _empty(title: str, scores: Sequence[Score], columns: Sequence[str], first: str = "representation") -> Table:
    """Returns a table with its title and columns, without rows."""
    from rich.table import Table

    if scores:
        title = f"{title} on {measured_samples(scores)}"
    made = Table(
        box=None,
        pad_edge=False,
        title=title,
        title_justify="left",
        title_style="",
        caption_justify="left",
        caption_style="",
    )
    made.min_width = len(title)
    made.add_column(first)
    for name in columns:
        made.add_column(name, justify="right")
    return made


def _cell(score: Score | None) -> str:
    """Returns the text of a value with its spread, or an empty text if there is no value."""
    if score is None or isnan(score.value):
        return ""
    return f"{score.value:.2f}" + ("" if score.spread is None else f" ± {score.spread:.2f}")


def _gain(gain: Gain | None) -> str:
    """Returns the text of a gain with its interval, or an empty text if there is none."""
    return "" if gain is None else f"{gain.value:+.1f} ({gain.low:.1f} to {gain.high:.1f})"
