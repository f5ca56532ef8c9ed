"""Tables with the scores of the runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isnan

from sanslabel.evaluation.table import heading, title_of
from sanslabel.report.page import note, table
from sanslabel.report.snapshot import Measurement, Snapshot
from sanslabel.scores import Score


def scores(runs: Sequence[Snapshot]) -> Iterator[str]:
    """Yields a table for each labeled data set and group of protocols, with a row for each representation of each run.

    If a score was measured with several settings, the table shows the last one.
    """
    measured = [(run.name, m) for run in runs for m in run.measurements if m.score.stage is None]
    for group in dict.fromkeys(_group(m) for _, m in measured):
        yield _table([(name, m) for name, m in measured if _group(m) == group])
    for run in runs:
        if run.earlier:
            yield note(
                f"{run.name} also has {run.earlier} scores of an earlier encoder, before it was trained on. "
                "`sanslabel evaluate RUN` measures the present one."
            )
    if not any(run.measurements for run in runs):
        yield note("Nothing has been measured yet. `sanslabel evaluate RUN` measures the encoder of a run.")


def _group(measurement: Measurement) -> tuple[str, str]:
    """Returns the key of a score's table: the data's fingerprint, and the protocol if it has a table of its own."""
    protocol = measurement.score.protocol
    return measurement.fingerprint, protocol if title_of(protocol) else ""


def _table(measured: Sequence[tuple[str, Measurement]]) -> str:
    """Returns the table of one group, from pairs of a run's name and a measurement."""
    (_, first), *_ = measured
    data, protocol = first.data, _group(first)[1]
    columns = list(dict.fromkeys(_column(m.score) for _, m in measured))
    values = {(name, m.score.representation, *_column(m.score)): m.score for name, m in measured}
    lines = dict.fromkeys((name, m.score.representation) for name, m in measured)
    title = title_of(protocol).format(data=data) or "In %"
    return table(
        ["run", "representation", *(heading(few, name, metric, bool(protocol)) for name, metric, few in columns)],
        [[*line, *(_cell(values.get((*line, *column))) for column in columns)] for line in lines],
        f"{title}, on {first.score.n_test:,} images of {data} ({first.score.split}).",
    )


def _column(score: Score) -> tuple[str, str, int | None]:
    return score.protocol, score.metric, score.labels_per_class


def _cell(score: Score | None) -> str:
    if score is None or isnan(score.value):
        return ""
    return f"{score.value:.2f}" + ("" if score.spread is None else f" ± {score.spread:.2f}")
