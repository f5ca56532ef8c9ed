"""Charts of the figures that training logged, one for each figure that the catalogue draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt

from sanslabel.figures import FIGURES, Figure, figure_of, keys_of, name_of
from sanslabel.report.charts import Chart, chart, colors_of, ranges, run_color
from sanslabel.report.snapshot import Snapshot

POINTS = 400
"""points of a curve, at most"""
UNKNOWN = 20
"""charts of terms that are not in the catalogue, at most"""
IN_PLAIN_WORDS: Mapping[str, str] = {
    "loss": "Training makes this number smaller. It should fall at first, and level off in the end.",
    "effective_rank": (
        "The number of directions in which the encoder distinguishes samples. If it falls to a few, many different "
        "samples have become alike."
    ),
    "embedding_std": "The spread of the samples: 1 is the widest, and at 0 the encoder confuses them all.",
    "accuracy": "The share of right answers in the task that the method sets itself. Higher is better.",
    "learning_rate": "The size of the steps of training, as planned from the start.",
}
"""sentences for the curves that are shown first, for a reader without knowledge of the field"""


def first_figures(runs: Sequence[Snapshot]) -> list[Figure]:
    """Returns the figures whose curves a reader sees first: loss, rank, accuracy or spread, and learning rate."""
    accurate = all(any(True for line in run.lines for _ in keys_of(line, "accuracy")) for run in runs)
    return [
        FIGURES[name]
        for name in ("loss", "effective_rank", "accuracy" if accurate else "embedding_std", "learning_rate")
    ]


def other_figures(runs: Sequence[Snapshot]) -> list[Figure]:
    """Returns all other figures that are drawn."""
    return [figure for figure in _drawn(runs) if figure not in first_figures(runs)]


def curves(runs: Sequence[Snapshot], figures: Sequence[Figure] | None = None) -> Iterator[Chart]:
    """Yields a chart over the steps of training for each of the figures that a run has, by default for all.

    All runs share one chart. A figure whose unit depends on the method, such as a loss, has a chart for each method.
    """
    methods = list(dict.fromkeys(run.plan.method for run in runs))
    for figure in _drawn(runs) if figures is None else figures:
        for method in [""] if figure.comparable else methods:
            points = [point for run in runs if method in ("", run.plan.method) for point in _points(run, figure.name)]
            title = f"{figure.title} of {method}" if method and len(methods) > 1 else figure.title
            if points:
                words = [IN_PLAIN_WORDS.get(figure.name) or _explanation(figure), *ranges(points)]
                yield chart(title, words, _lines(points, figure.unit, runs), colors=colors_of(points, runs))


def _drawn(runs: Sequence[Snapshot]) -> list[Figure]:
    """Returns the figures that are drawn, in the order of the catalogue. Terms outside of the catalogue come last."""
    unknown = {name_of(key) for run in runs for line in run.lines for key in line} - FIGURES.keys()
    others = [figure for figure in map(figure_of, sorted(unknown)) if figure.drawn]
    return [f for f in FIGURES.values() if f.drawn] + others[:UNKNOWN]


def _points(run: Snapshot, name: str) -> list[dict[str, Any]]:
    """Returns the points of a figure's curves, one curve for each player that logs it."""
    points = []
    for key in dict.fromkeys(key for line in run.lines for key in keys_of(line, name)):
        lines = [line for line in run.lines if isinstance(line.get(key), int | float)]
        player, every = key.rpartition("/")[0], len(lines) // POINTS + 1
        names = {"run": run.name, "player": player, "curve": f"{run.name} {player}".strip()}
        shown = [*lines[:-1:every], *lines[-1:]]
        points += [{"step": line["step"], "value": line[key], **names} for line in shown]
    return points


def _explanation(figure: Figure) -> str:
    """Returns the meaning of a figure, and the direction in which it gets better."""
    better = {"": "", "near 1": " Values near 1 are good."}.get(figure.better, f" {figure.better.title()} is better.")
    return figure.meaning + better


def _lines(points: Sequence[Mapping[str, Any]], unit: str, runs: Sequence[Snapshot]) -> alt.Chart:
    """Returns lines with the color of each run, the same in all charts, and a dash pattern for each player."""
    players = sorted({point["player"] for point in points})
    legend = alt.Legend(orient="bottom", columns=2, labelLimit=260, values=[name for name in players if name])
    dashed = alt.StrokeDash(
        "player:N", title=None, scale=alt.Scale(domain=players), legend=legend if len(players) > 1 else None
    )
    return (
        alt.Chart(alt.Data(values=points))
        .mark_line(clip=True)
        .encode(
            x=alt.X("step:Q", title="step", axis=alt.Axis(format="~s")),
            y=alt.Y("value:Q", title=unit or None, scale=alt.Scale(zero=False)),
            color=run_color(runs),
            strokeDash=dashed,
            tooltip=[alt.Tooltip("curve:N", title="run"), "step:Q", alt.Tooltip("value:Q", format=".4g")],
        )
    )
