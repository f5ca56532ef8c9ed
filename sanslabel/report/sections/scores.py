"""Tables with the scores of the runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isnan
from typing import NamedTuple

from sanslabel.evaluation.table import few_labels_note, heading, title_of
from sanslabel.report.markup import Cell, note, table
from sanslabel.report.snapshot import Measurement, Snapshot
from sanslabel.scores import BALANCED, LARGEST_CLASS, Gain, Score, measured_samples
from sanslabel.wording import plural

Column = tuple[str, str, int | None]
"""protocol, metric and labels of each class"""


class Line(NamedTuple):
    """The scores of a representation of one run, or of a representation that all runs share."""

    name: str
    color: str
    """color of the run, or "" for a representation that was not trained"""
    scores: dict[Column, Score]


def scores(runs: Sequence[Snapshot]) -> Iterator[str]:
    """Yields a table for each labeled data set and group of protocols, with a row for each representation of each run.

    If a score was measured with several settings, the table shows the last one.
    """
    measured = [(run, m) for run in runs for m in run.measurements if m.score.stage is None]
    for group in dict.fromkeys(_group(m) for _, m in measured):
        yield _table([(run, m) for run, m in measured if _group(m) == group], len(runs) > 1)
    for run in runs:
        if run.earlier:
            yield note(
                f"{run.name} also has {run.earlier} scores of an earlier encoder, before it was trained on. "
                "`sanslabel evaluate RUN` measures the present one."
            )
    if not any(run.measurements for run in runs):
        samples = " or ".join(dict.fromkeys(plural(run.plan.noun) for run in runs))
        yield note(
            f"Nothing has been measured yet. `sanslabel evaluate RUN --data LABELED` does, with labeled {samples}."
        )


def _group(measurement: Measurement) -> tuple[str, str, str]:
    """Returns the key of a score's table: the data's fingerprint, the protocol if it has a table of its own, and the
    signal that the encoder reads, since each signal has baselines of its own."""
    protocol = measurement.score.protocol
    return measurement.fingerprint, protocol if title_of(protocol) else "", measurement.signal


def _table(measured: Sequence[tuple[Snapshot, Measurement]], several: bool) -> str:
    """Returns the table of one group. In the table of accuracies, the best value of each column is marked."""
    (_, first), *_ = measured
    data, (_, protocol, signal) = first.data, _group(first)
    columns = list(dict.fromkeys(_column(m.score) for _, m in measured))
    best = {} if protocol else {column: _best(column, measured) for column in columns}
    of_signal = f"Encoder of the {signal}, in" if signal else "In"
    title = title_of(protocol).format(data=data) or f"{of_signal} %, higher is better"
    return table(
        ["", *(_heading(column, measured, bool(protocol)) for column in columns)],
        [cells for line in _lines(measured, several) for cells in _cells(line, columns, best)],
        f"{title}, on {measured_samples([m.score for _, m in measured], data)}. "
        f"{_explanation([m.score for _, m in measured])}",
    )


def _explanation(scores: Sequence[Score]) -> str:
    """Returns sentences on the signs in a table."""
    sentences = []
    if any(score.spread is not None for score in scores):
        sentences.append("± is the standard deviation over draws of the labels.")
    if any(score.gains for score in scores):
        sentences.append("Gains have 95 % intervals; one that contains 0 may be chance.")
    return " ".join([*sentences, few_labels_note(scores)]).strip()


def _lines(measured: Sequence[tuple[Snapshot, Measurement]], several: bool) -> list[Line]:
    """Returns the lines. Representations with equal scores in several runs, such as pixels, share a line."""
    made: dict[tuple[str, str], Line] = {}
    for run, measurement in measured:
        name = measurement.score.representation
        color = run.color if name.startswith("trained") else ""
        title = f"{run.name}: {name}" if several else name
        line = made.setdefault((run.name, name), Line(title, color, {}))
        line.scores[_column(measurement.score)] = measurement.score
    shared: dict[str, Line] = {}
    for (_, name), line in made.items():
        equal = [other for (_, title), other in made.items() if title == name and _values(other) == _values(line)]
        key = name if len(equal) > 1 and not line.color else line.name
        shared.setdefault(key, line._replace(name=key))
    return sorted(shared.values(), key=lambda line: (bool(line.color), line.name != LARGEST_CLASS))


def _cells(line: Line, columns: Sequence[Column], best: Mapping[Column, float]) -> Iterator[list[Cell]]:
    """Yields the cells of a representation, and those of its gains over each other one."""
    scores = [line.scores.get(column) for column in columns]
    yield [
        Cell(line.name, color=line.color),
        *(_cell(score, best.get(column)) for column, score in zip(columns, scores, strict=True)),
    ]
    for over in dict.fromkeys(gain.over for score in line.scores.values() for gain in score.gains):
        gains = [[gain for gain in (score.gains if score else ()) if gain.over == over][:1] for score in scores]
        yield [Cell(f"gain over {over}", color=line.color), *(_gain(*gain) for gain in gains)]


def _values(line: Line) -> list[tuple[Column, float]]:
    return [(column, score.value) for column, score in line.scores.items()]


def _heading(column: Column, measured: Sequence[tuple[Snapshot, Measurement]], alone: bool) -> str:
    protocol, metric, few = column
    scores = [measurement.score for _, measurement in measured if _column(measurement.score) == column]
    balanced = " (balanced)" if metric == BALANCED else ""
    return heading(few, protocol, metric, alone, scores) + balanced


def _column(score: Score) -> Column:
    return score.protocol, score.metric, score.labels_per_class


def _best(column: Column, measured: Sequence[tuple[Snapshot, Measurement]]) -> float:
    """Returns the largest value of a column, or nan if there is nothing to compare."""
    values = [m.score.value for _, m in measured if _column(m.score) == column and not isnan(m.score.value)]
    return max(values) if len(values) > 1 else float("nan")


def _cell(score: Score | None, best: float | None) -> Cell:
    if score is None or isnan(score.value):
        return Cell("")
    spread = "" if score.spread is None else f" ± {score.spread:.2f}"
    return Cell(f"{score.value:.2f}{spread}", best=score.value == best)


def _gain(gain: Gain | None = None) -> Cell:
    """Returns a gain with its interval. One that may be chance says so."""
    if gain is None:
        return Cell("")
    interval = f"{gain.low:+.1f} to {gain.high:+.1f}"
    return Cell(f"{gain.value:+.1f}", (interval if gain.sign else f"{interval}: may be chance",))
