"""Charts in Vega-Lite, each with a caption that states the content in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isnan
from typing import Any, NamedTuple

import altair as alt

from sanslabel.report.snapshot import Snapshot

HEIGHT = 180
"""height of a chart in pixels"""
LABELED = 12
"""largest number of classes for which a confusion matrix shows its counts as text"""
DECADES = alt.Axis(format=".0e", tickCount=5)
"""axis of a logarithmic scale; without `tickCount` it would have nine lines in each decade"""
LEGEND: dict[str, Any] = {"orient": "bottom", "columns": 2, "labelLimit": 260, "symbolOpacity": 1}
"""place and size of legends"""


class Chart(NamedTuple):
    """A figure of the page."""

    title: str
    words: Sequence[str]
    """lines of the caption, which also serves people who do not see the chart"""
    spec: Mapping[str, Any]
    """Vega-Lite"""


def chart(title: str, words: str | Sequence[str], drawing: Any, height: int = HEIGHT) -> Chart:
    """Returns a chart that is as wide as its place on the page, from a drawing by altair."""
    words = [words] if isinstance(words, str) else words
    return Chart(title, words, drawing.properties(width="container", height=height, description=title).to_dict())


def ranges(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a sentence for each curve, with its first, last, lowest and highest value."""
    sentences = []
    for curve in dict.fromkeys(point["curve"] for point in points):
        values = [point["value"] for point in points if point["curve"] == curve]
        ends = f"{values[0]:.3g} at first, {values[-1]:.3g} at last"
        sentences.append(f"{curve}: {ends}, from {min(values):.3g} to {max(values):.3g}.")
    return sentences


def stages(runs: Sequence[Snapshot]) -> Iterator[Chart]:
    """Yields a chart of the linear accuracy of each stage, if it was measured."""
    points = [
        {"stage": score.stage, "value": round(score.value, 2), "curve": f"{run.name}, {score.representation}"}
        for run in runs
        for score, *_ in run.measurements
        if score.protocol == "layers" and not isnan(score.value)
    ]
    if points:
        drawing = (
            alt.Chart(alt.Data(values=points))
            .mark_line(point=True)
            .encode(
                x=alt.X("stage:O", title="stage", axis=alt.Axis(labelAngle=0)),
                y=alt.Y("value:Q", title="linear accuracy, %", scale=alt.Scale(zero=False)),
                color=alt.Color("curve:N", title=None, legend=alt.Legend(orient="bottom", columns=1, labelLimit=320)),
                tooltip=[alt.Tooltip("curve:N", title="run"), "stage:O", "value:Q"],
            )
        )
        yield chart("Accuracy of a linear probe on each stage", ranges(points), drawing)


def confusion(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> Chart:
    """Returns a confusion matrix: the number of test images for each true (row) and predicted class (column)."""
    cells = [
        {"true": classes[i], "predicted": classes[j], "images": count, "share": count / max(1, sum(row))}
        for i, row in enumerate(counts)
        for j, count in enumerate(row)
    ]
    fitting = len(classes) <= LABELED and all(len(name) < 9 for name in classes)
    base = alt.Chart(alt.Data(values=cells)).encode(
        x=alt.X("predicted:N", title="predicted", sort=list(classes), axis=alt.Axis(labelAngle=0 if fitting else -90)),
        y=alt.Y("true:N", title="true", sort=list(classes)),
    )
    layers = base.mark_rect().encode(
        color=alt.Color("share:Q", title=None, scale=alt.Scale(scheme="blues", domain=[0, 1]), legend=None),
        tooltip=["true:N", "predicted:N", "images:Q", alt.Tooltip("share:Q", format=".1%")],
    )
    if len(classes) <= LABELED:
        layers += base.mark_text(fontSize=10).encode(
            text="images:Q", color=alt.condition("datum.share > 0.5", alt.value("white"), alt.value("#333"))
        )
    right = sum(counts[i][i] for i in range(len(classes)))
    total = max(1, sum(map(sum, counts)))
    mistakes = (
        (cell["images"], cell["true"], cell["predicted"]) for cell in cells if cell["true"] != cell["predicted"]
    )
    most, true, predicted = max(mistakes, default=(0, "", ""))
    words = f"{right:,} of {total:,} images are classified correctly."
    words += f" The most common mistake, {most} times, is {predicted} for {true}." if most else ""
    return chart("Confusion of the linear probe", words, layers, 340)


def histogram(sets: Mapping[str, Sequence[float]], unit: str) -> Chart:
    """Returns a histogram of the energies of each set of images, by the set's name."""
    values = [{"energy": round(x, 6), "set": name} for name, set_ in sets.items() for x in set_]
    drawing = (
        alt.Chart(alt.Data(values=values))
        .mark_bar(opacity=0.5, binSpacing=0)
        .encode(
            x=alt.X("energy:Q", bin=alt.Bin(maxbins=60), title=f"energy ({unit})" if unit else "energy"),
            y=alt.Y("count():Q", stack=None, title="images"),
            color=alt.Color("set:N", title=None, legend=alt.Legend(**LEGEND)),
        )
    )
    words = "; ".join(f"{name}: mean {sum(x) / len(x):.4g}" for name, x in sets.items()) + "."
    return chart("Energies", words, drawing)


def bars(title: str, values: Sequence[float], unit: str) -> Chart:
    """Returns a chart with a bar for each dimension, the largest first."""
    bars = [{"dimension": i, "value": round(x, 5)} for i, x in enumerate(sorted(values, reverse=True), 1)]
    drawing = (
        alt.Chart(alt.Data(values=bars))
        .mark_bar()
        .encode(x=alt.X("dimension:O", axis=alt.Axis(labels=len(bars) <= 40)), y=alt.Y("value:Q", title=unit))
    )
    words = f"{len(bars)} dimensions, from {bars[-1]['value']:.3g} to {bars[0]['value']:.3g}."
    return chart(title, words, drawing)


def spectrum(values: Sequence[float]) -> Chart:
    """Returns a chart of a representation's singular values, the largest first, relative to the largest."""
    points = [{"direction": i, "value": max(x / values[0], 1e-9)} for i, x in enumerate(values, 1)]
    drawing = (
        alt.Chart(alt.Data(values=points))
        .mark_line()
        .encode(
            x=alt.X("direction:Q", title="direction"),
            y=alt.Y("value:Q", title="singular value", scale=alt.Scale(type="log"), axis=DECADES),
        )
    )
    small = next((point["direction"] for point in points if point["value"] < 0.01), None)
    below = f"those from {small} on are" if small else "none is"
    words = f"{len(points)} directions; {below} below a hundredth of the first. A cliff is a dimensional collapse."
    return chart("Spectrum of the representation", words, drawing)


def scatter(x: Sequence[float], y: Sequence[float], groups: Mapping[str, Sequence[str]], title: str) -> Chart:
    """Returns a map of points. The reader of the page chooses the grouping that colors the points."""
    points = [
        {"row": i, "x": round(a, 3), "y": round(b, 3), **{name: members[i] for name, members in groups.items()}}
        for i, (a, b) in enumerate(zip(x, y, strict=True))
    ]
    first = next(iter(groups))
    choice = alt.param(name="colored", value=first, bind=alt.binding_radio(options=list(groups), name="color by "))
    drawing = (
        alt.Chart(alt.Data(values=points))
        .mark_circle(size=18, opacity=0.8)
        .transform_calculate(group="datum[colored]")
        .encode(
            x=alt.X("x:Q", axis=None, scale=alt.Scale(zero=False)),
            y=alt.Y("y:Q", axis=None, scale=alt.Scale(zero=False)),
            color=alt.Color("group:N", title=None, scale=alt.Scale(scheme="tableau20"), legend=alt.Legend(**LEGEND)),
        )
    )
    drawing = drawing.add_params(choice if len(groups) > 1 else alt.param(name="colored", value=first))
    words = f"{len(points):,} images as points. Points that lie close together have similar representations."
    return chart(title, words, drawing, 460)
