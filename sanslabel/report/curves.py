"""Charts of the figures that training logged, one for each figure that the catalogue draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt

from sanslabel.figures import FIGURES, Figure, figure_of, keys_of, name_of
from sanslabel.report.charts import LEGEND, Chart, chart, ranges
from sanslabel.report.snapshot import Snapshot

POINTS = 400
"""points of a curve, at most"""
UNKNOWN = 20
"""charts of terms that are not in the catalogue, at most"""


def curves(runs: Sequence[Snapshot]) -> Iterator[Chart]:
    """Yields a chart over the steps of training for each figure that the catalogue draws and a run has.

    All runs share one chart. A figure whose unit depends on the method, such as a loss, has a chart for each method.
    """
    methods = list(dict.fromkeys(run.plan.method for run in runs))
    for figure in _drawn(runs):
        for method in [""] if figure.comparable else methods:
            points = [point for run in runs if method in ("", run.plan.method) for point in _points(run, figure.name)]
            title = f"{figure.title} of {method}" if method and len(methods) > 1 else figure.title
            if points:
                drawing = _lines(points, figure.unit, [run.name for run in runs])
                yield chart(title, [_explanation(figure), *ranges(points)], drawing)


def _drawn(runs: Sequence[Snapshot]) -> list[Figure]:
    """Returns the figures that are drawn, in the order of the catalogue. Terms outside of the catalogue come last."""
    unknown = {name_of(key) for run in runs for line in run.lines for key in line} - FIGURES.keys()
    return [f for f in FIGURES.values() if f.drawn] + [figure_of(name) for name in sorted(unknown)[:UNKNOWN]]


def _points(run: Snapshot, name: str) -> list[dict[str, Any]]:
    """Returns the points of a figure's curves, one curve for each player that logs it."""
    points = []
    for key in dict.fromkeys(key for line in run.lines for key in keys_of(line, name)):
        lines = [line for line in run.lines if isinstance(line.get(key), int | float)]
        player, every = key.rpartition("/")[0], len(lines) // POINTS + 1
        names = {"run": run.name, "player": player, "curve": f"{run.name} {player}".strip()}
        points += [{"step": line["step"], "value": line[key], **names} for line in lines[::every]]
    return points


def _explanation(figure: Figure) -> str:
    """Returns the meaning of a figure, and the direction in which it gets better."""
    better = {"": "", "near 1": " Values near 1 are good."}.get(figure.better, f" {figure.better.title()} is better.")
    return figure.meaning + better


def _lines(points: Sequence[Mapping[str, Any]], unit: str, runs: Sequence[str]) -> alt.Chart:
    """Returns lines with a color for each run, the same in all charts, and a dash pattern for each player."""
    drawn = [run for run in runs if any(point["run"] == run for point in points)]
    players = sorted({point["player"] for point in points})
    return (
        alt.Chart(alt.Data(values=points))
        .mark_line(clip=True)
        .encode(
            x=alt.X("step:Q", title="step", axis=alt.Axis(format="~s")),
            y=alt.Y("value:Q", title=unit or None, scale=alt.Scale(zero=False)),
            color=alt.Color("run:N", title=None, scale=alt.Scale(domain=runs), legend=_legend(drawn)),
            strokeDash=alt.StrokeDash("player:N", title=None, scale=alt.Scale(domain=players), legend=_legend(players)),
            tooltip=[alt.Tooltip("curve:N", title="run"), "step:Q", alt.Tooltip("value:Q", format=".4g")],
        )
    )


def _legend(names: Sequence[str]) -> alt.Legend | None:
    """Returns a legend of these names, or None if there are fewer than two."""
    return alt.Legend(**LEGEND, values=[name for name in names if name]) if len(names) > 1 else None
