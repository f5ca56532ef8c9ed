"""Charts in Vega-Lite, each with a caption that states the content in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isnan
from typing import Any, NamedTuple

import altair as alt

from sanslabel.report.colors import GRAY, HUES, tint
from sanslabel.report.snapshot import Snapshot
from sanslabel.wording import plural

HEIGHT = 180
"""height of a chart in pixels"""
COUNTED = 20
"""largest number of classes for which a confusion matrix shows its counts as text"""
DECADES = alt.Axis(format=".0e", tickCount=5)
"""axis of a logarithmic scale; without `tickCount` it would have nine lines in each decade"""


class Chart(NamedTuple):
    """A figure of the page."""

    title: str
    words: Sequence[str]
    """lines of the caption, which also serves people who do not see the chart"""
    spec: Mapping[str, Any]
    """Vega-Lite"""
    colors: Sequence[str] = ()
    """colors of the last lines of the caption, which are the chart's legend; empty for one curve of one run"""


def chart(
    title: str, words: str | Sequence[str], drawing: Any, height: int = HEIGHT, colors: Sequence[str] = ()
) -> Chart:
    """Returns a chart that is as wide as its place on the page, from a drawing by altair."""
    words = [words] if isinstance(words, str) else words
    return Chart(
        title, words, drawing.properties(width="container", height=height, description=title).to_dict(), colors
    )


def _curves(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the names of the curves that points belong to, in their order."""
    return list(dict.fromkeys(point["curve"] for point in points))


def ranges(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a sentence for each curve, with its first, last, lowest and highest value."""
    sentences = []
    for curve in _curves(points):
        values = [point["value"] for point in points if point["curve"] == curve]
        ends = f"{values[0]:.3g} at first, {values[-1]:.3g} at last"
        sentences.append(f"{curve}: {ends}, from {min(values):.3g} to {max(values):.3g}.")
    return sentences


def colors_of(points: Sequence[Mapping[str, Any]], runs: Sequence[Snapshot]) -> list[str]:
    """Returns the color of each curve's run, in the order of `ranges`."""
    colors = {run.name: run.color for run in runs}
    run_of = {point["curve"]: point["run"] for point in points}
    return [colors[run_of[curve]] for curve in _curves(points)]


def run_color(runs: Sequence[Snapshot]) -> alt.Color:
    """Returns the color encoding that gives each run its color in all charts. The captions are its legend."""
    return alt.Color("run:N", scale=color_scale({run.name: run.color for run in runs}), legend=None)


def color_scale(colors: Mapping[str, str]) -> alt.Scale:
    """Returns the scale that gives each name its color."""
    return alt.Scale(domain=list(colors), range=list(colors.values()))


def stages(runs: Sequence[Snapshot]) -> Iterator[Chart]:
    """Yields a chart of the linear accuracy of each stage, if it was measured."""
    points = [
        {
            "stage": score.stage,
            "value": round(score.value, 2),
            "run": run.name,
            "encoder": score.representation,
            "curve": f"{run.name}, {score.representation}",
        }
        for run in runs
        for score, *_ in run.measurements
        if score.protocol == "layers" and not isnan(score.value)
    ]
    if points:
        legend = alt.Legend(orient="bottom", columns=1, labelLimit=320, symbolStrokeColor=GRAY)
        drawing = (
            alt.Chart(alt.Data(values=points))
            .mark_line(point=True)
            .encode(
                x=alt.X("stage:O", title="stage", axis=alt.Axis(labelAngle=0)),
                y=alt.Y("value:Q", title="linear accuracy, %", scale=alt.Scale(zero=False)),
                color=run_color(runs),
                strokeDash=alt.StrokeDash("encoder:N", title=None, legend=legend),
                tooltip=[alt.Tooltip("curve:N", title="run"), "stage:O", "value:Q"],
            )
        )
        explanation = "A linear classifier reads each stage of the encoder. Early stages often transfer better."
        words = [explanation, *ranges(points)]
        yield chart("Accuracy by stage", words, drawing, colors=colors_of(points, runs))


def confusion(
    classes: Sequence[str], counts: Sequence[Sequence[int]], color: str = HUES[0], noun: str = "image"
) -> Chart:
    """Returns a confusion matrix: the number of test samples for each true (row) and predicted class (column).

    A cell without samples has no color. The number of samples of a class stands beside its name. noun: the word for a
    sample.
    """
    samples = plural(noun)
    titles = [f"{name} ({sum(row):,})" for name, row in zip(classes, counts, strict=True)]
    cells = [
        {"true": titles[i], "predicted": classes[j], "count": count, "share": round(count / max(1, sum(row)), 4)}
        for i, row in enumerate(counts)
        for j, count in enumerate(row)
    ]
    upright = len(classes) <= 12 and all(len(name) < 9 for name in classes)
    axis = alt.Axis(labelAngle=0 if upright else -90, labelLimit=110, labelOverlap=True)
    base = alt.Chart(alt.Data(values=cells)).encode(
        x=alt.X("predicted:N", title="predicted", sort=list(classes), axis=axis),
        y=alt.Y("true:N", title="true", sort=titles, axis=alt.Axis(labelLimit=110, labelOverlap=True)),
    )
    filled = alt.FilterTransform("datum.count > 0")
    shade = alt.Scale(type="linear", domain=[0, 1], range=[tint(color), color], interpolate="rgb")
    tooltip = ["true:N", "predicted:N", alt.Tooltip("count:Q", title=samples), alt.Tooltip("share:Q", format=".1%")]
    # The first layer keeps the places of empty cells, so that a class without predictions has its row and column.
    layers = base.mark_rect(opacity=0).encode(tooltip=tooltip)
    squares = base.mark_rect().encode(color=alt.Color("share:Q", scale=shade, legend=None), tooltip=tooltip)
    layers += squares.transform_filter(filled.filter)
    if len(classes) <= COUNTED:
        ink = alt.condition("datum.share > 0.5", alt.value("white"), alt.value("#1c2126"))
        texts = base.mark_text(fontSize=10).encode(text=alt.Text("count:Q", format="d"), color=ink)
        layers += texts.transform_filter(filled.filter)
    right = sum(counts[i][i] for i in range(len(classes)))
    total = max(1, sum(map(sum, counts)))
    mistakes = (
        (counts[i][j], true, predicted)
        for i, true in enumerate(classes)
        for j, predicted in enumerate(classes)
        if i != j
    )
    most, true, predicted = max(mistakes, default=(0, "", ""))
    words = [
        f"Each row is a class with its number of test {samples}, and shows which class a linear classifier took them "
        f"for. An empty cell is zero. {right:,} of {total:,} are right."
    ]
    if most:
        words[0] += f" The most common mistake, {most} times: {true} taken for {predicted}."
    return chart("Mistakes", words, layers, min(900, max(300, 22 * len(classes))))


def histogram(sets: Mapping[str, Sequence[float]], unit: str, colors: Mapping[str, str]) -> Chart:
    """Returns a histogram of the energies of each set of images, by the set's name."""
    values = [{"energy": round(x, 6), "set": name} for name, set_ in sets.items() for x in set_]
    shown = {name: colors.get(name, GRAY) for name in sets}
    drawing = (
        alt.Chart(alt.Data(values=values))
        .mark_bar(opacity=0.55, binSpacing=0)
        .encode(
            x=alt.X("energy:Q", bin=alt.Bin(maxbins=60), title=f"energy ({unit})" if unit else "energy"),
            y=alt.Y("count():Q", stack=None, title="images"),
            color=alt.Color("set:N", scale=color_scale(shown), legend=None),
        )
    )
    words = ["A low energy means that the model finds an image likely."]
    words += [f"{name}: mean {sum(x) / len(x):.4g}" for name, x in sets.items()]
    return chart("Energies", words, drawing, colors=list(shown.values()))


def bars(title: str, values: Sequence[float], unit: str, color: str) -> Chart:
    """Returns a chart with a bar for each dimension, the largest first."""
    bars = [{"dimension": i, "value": round(x, 5)} for i, x in enumerate(sorted(values, reverse=True), 1)]
    drawing = (
        alt.Chart(alt.Data(values=bars))
        .mark_bar(color=color)
        .encode(x=alt.X("dimension:O", axis=alt.Axis(labels=len(bars) <= 40)), y=alt.Y("value:Q", title=unit))
    )
    words = f"{len(bars)} dimensions, from {bars[-1]['value']:.3g} to {bars[0]['value']:.3g}."
    return chart(title, words, drawing)


def spectra(runs: Sequence[Snapshot], values: Mapping[str, Sequence[float]]) -> Chart:
    """Returns a chart of singular values, by the name of the run, each relative to its run's largest."""
    points, words = [], ["The strength of each direction of the representation, relative to the strongest."]
    words[0] += " A cliff means that the encoder uses only the directions before it."
    for name, spectrum in values.items():
        points += [
            {"direction": i, "value": max(x / spectrum[0], 1e-9), "run": name, "curve": name}
            for i, x in enumerate(spectrum, 1)
        ]
        small = next((i for i, x in enumerate(spectrum, 1) if x < 0.01 * spectrum[0]), None)
        below = f"those from {small} on are" if small else "none is"
        words.append(f"{name}: {len(spectrum)} directions; {below} below a hundredth of the first.")
    drawing = (
        alt.Chart(alt.Data(values=points))
        .mark_line()
        .encode(
            x=alt.X("direction:Q", title="direction"),
            y=alt.Y("value:Q", title="singular value", scale=alt.Scale(type="log"), axis=DECADES),
            color=run_color(runs),
        )
    )
    return chart("Spectrum of the representation", words, drawing, colors=colors_of(points, runs))
