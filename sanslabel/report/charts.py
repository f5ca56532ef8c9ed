"""Charts as Vega-Lite, each with the words that stand for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import altair as alt

from sanslabel.report.contents import Contents

POINTS = 400
"""of a curve, at most"""
HEIGHT = 180
"""pixels"""
CURVES = {
    "loss": "Loss",
    "embedding_std": "Spread of the embedding (1 on the whole sphere, 0 at a point)",
    "effective_rank": "Effective rank of the embedding",
    "mean_cosine": "Mean cosine of different images",
    "alignment": "Squared distance of what belongs together",
    "uniformity": "Uniformity (0 at a point, down to -4)",
    "participation_ratio": "Participation ratio",
    "lidar": "LiDAR: directions that tell images apart",
    "alpha_req": "α of the spectrum (near 1 is good)",
    "usage": "Prototypes in use",
    "teacher_entropy": "Entropy of the teacher",
    "hardest_tenth": "Share of the hardest tenth of the negatives",
    "accuracy": "Accuracy in its own task",
    "kl": "KL",
    "active_units": "Code dimensions in use",
    "sample_variation": "Variation of samples, beside that of data",
    "explained": "Part of the variance that is explained",
    "gradient_norm": "Norm of the gradient",
    "learning_rate": "Learning rate",
}
"""what is drawn of metrics.jsonl, where a run has it"""


class Chart(NamedTuple):
    """A figure of the page."""

    title: str
    words: str
    """what a person who does not see it is told"""
    spec: Mapping[str, Any]
    """Vega-Lite"""


def curves(runs: Sequence[Contents]) -> Iterator[Chart]:
    """What training wrote down over its steps, all runs in one chart for each figure; losses only with those of the
    same method, for others have other units."""
    methods = dict.fromkeys(run.said["method"] for run in runs)
    for key, title in CURVES.items():
        for method in methods if key == "loss" else [None]:
            of = [run for run in runs if method in (None, run.said["method"])]
            rows = [row for run in of for row in _values(run, key)]
            named = f"{title} of {method}" if method is not None and len(methods) > 1 else title
            if rows:
                yield Chart(named, _told(rows), _lines(rows, named))


def _values(run: Contents, key: str) -> list[dict[str, Any]]:
    """A figure's values, of each player that has it."""
    found = []
    names = dict.fromkeys(name for line in run.lines for name in line if name.rpartition("/")[2] == key)
    for name in names:
        rows = [line for line in run.lines if isinstance(line.get(name), int | float)]
        player = name.rpartition("/")[0]
        of = f"{run.name} {player}".strip()
        found += [{"step": line["step"], "value": line[name], "of": of} for line in rows[:: len(rows) // POINTS + 1]]
    return found


def _told(rows: Sequence[Mapping[str, Any]]) -> str:
    """From where to where each curve goes."""
    sentences = []
    for of in dict.fromkeys(row["of"] for row in rows):
        values = [row["value"] for row in rows if row["of"] == of]
        sentences.append(
            f"{of}: {values[0]:.3g} at first, {values[-1]:.3g} at last, from {min(values):.3g} to {max(values):.3g}"
        )
    return "; ".join(sentences) + "."


def _lines(rows: Sequence[Mapping[str, Any]], title: str) -> dict[str, Any]:
    several = len({row["of"] for row in rows}) > 1
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_line(clip=True)
        .encode(
            x=alt.X("step:Q", title="step", axis=alt.Axis(format="~s")),
            y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False)),
            color=alt.Color("of:N", title=None, legend=_LEGEND if several else None),
            tooltip=[alt.Tooltip("of:N", title="run"), "step:Q", alt.Tooltip("value:Q", format=".4g")],
        )
    )
    return _finished(chart, title)


def layers(runs: Sequence[Contents]) -> Iterator[Chart]:
    """The linear accuracy of each stage, where it was measured."""
    rows = [
        {"stage": score["stage"], "value": round(score["value"], 2), "of": f"{run.name}, {score['representation']}"}
        for run in runs
        for score in run.scores
        if score["protocol"] == "layers" and score["value"] is not None
    ]
    if rows:
        chart = (
            alt.Chart(alt.Data(values=rows))
            .mark_line(point=True)
            .encode(
                x=alt.X("stage:O", title="stage", axis=alt.Axis(labelAngle=0)),
                y=alt.Y("value:Q", title="linear accuracy, %", scale=alt.Scale(zero=False)),
                color=alt.Color("of:N", title=None, legend=alt.Legend(orient="bottom", columns=1, labelLimit=320)),
                tooltip=["of:N", "stage:O", "value:Q"],
            )
        )
        yield Chart("What a linear probe reads off each stage", _told(rows), _finished(chart, "accuracy of stages"))


def confusion(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> Chart:
    """How often the probe took a class (row) for another (column), on test images."""
    rows = [
        {"true": classes[i], "said": classes[j], "images": count, "share": count / max(1, sum(row))}
        for i, row in enumerate(counts)
        for j, count in enumerate(row)
    ]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("said:N", title="the probe says", sort=list(classes)),
        y=alt.Y("true:N", title="it is", sort=list(classes)),
    )
    cells = base.mark_rect().encode(
        color=alt.Color("share:Q", title=None, scale=alt.Scale(scheme="blues", domain=[0, 1]), legend=None),
        tooltip=["true:N", "said:N", "images:Q", alt.Tooltip("share:Q", format=".1%")],
    )
    layered = cells
    if len(classes) <= 12:
        layered += base.mark_text(fontSize=10).encode(
            text="images:Q", color=alt.condition("datum.share > 0.5", alt.value("white"), alt.value("#333"))
        )
    right = sum(counts[i][i] for i in range(len(classes)))
    total = max(1, sum(map(sum, counts)))
    worst = max(
        ((counts[i][j], classes[i], classes[j]) for i in range(len(classes)) for j in range(len(classes)) if i != j),
        default=(0, "", ""),
    )
    words = f"{right:,} of {total:,} images are named rightly; most often, {worst[0]} times, {worst[1]} is taken for "
    return Chart("What the linear probe takes for what", f"{words}{worst[2]}.", _finished(layered, "confusion", 340))


def histogram(energies: Mapping[str, Sequence[float]], unit: str) -> Chart:
    """Of the energies of sets of images, by the set's name."""
    rows = [{"energy": round(x, 6), "set": name} for name, values in energies.items() for x in values]
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_bar(opacity=0.5, binSpacing=0)
        .encode(
            x=alt.X("energy:Q", bin=alt.Bin(maxbins=60), title=f"energy ({unit})" if unit else "energy"),
            y=alt.Y("count():Q", stack=None, title="images"),
            color=alt.Color("set:N", title=None, legend=_LEGEND),
        )
    )
    words = "; ".join(f"{name}: mean {sum(x) / len(x):.4g}" for name, x in energies.items()) + "."
    return Chart("Energies", words, _finished(chart, "energies"))


def bars(title: str, values: Sequence[float], axis: str) -> Chart:
    """A number for each dimension, the largest first."""
    rows = [{"dimension": i, "value": round(x, 5)} for i, x in enumerate(sorted(values, reverse=True), 1)]
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_bar()
        .encode(x=alt.X("dimension:O", axis=alt.Axis(labels=len(rows) <= 40)), y=alt.Y("value:Q", title=axis))
    )
    words = f"{len(rows)} dimensions, from {rows[-1]['value']:.3g} to {rows[0]['value']:.3g}."
    return Chart(title, words, _finished(chart, title))


def spectrum(values: Sequence[float]) -> Chart:
    """The singular values of a representation, the largest first, in parts of it."""
    rows = [{"direction": i, "value": max(x / values[0], 1e-9)} for i, x in enumerate(values, 1)]
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_line()
        .encode(
            x=alt.X("direction:Q", title="direction"),
            y=alt.Y("value:Q", title="singular value", scale=alt.Scale(type="log"), axis=alt.Axis(format=".0e")),
        )
    )
    title = "Spectrum of the representation (a cliff is a dimensional collapse)"
    small = next((row["direction"] for row in rows if row["value"] < 0.01), None)
    words = (
        f"{len(rows)} directions; " + (f"from {small} on" if small else "none is") + " below a hundredth of the first."
    )
    return Chart(title, words, _finished(chart, title))


def scatter(x: Sequence[float], y: Sequence[float], groups: Mapping[str, Sequence[str]], title: str) -> Chart:
    """A map of points, colored by one of several groupings, which a person chooses."""
    rows = [
        {"row": i, "x": round(a, 3), "y": round(b, 3), **{name: of[i] for name, of in groups.items()}}
        for i, (a, b) in enumerate(zip(x, y, strict=True))
    ]
    first = next(iter(groups))
    choice = alt.param(name="colored", value=first, bind=alt.binding_radio(options=list(groups), name="color by "))
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_circle(size=18, opacity=0.8)
        .transform_calculate(group="datum[colored]")
        .encode(
            x=alt.X("x:Q", axis=None, scale=alt.Scale(zero=False)),
            y=alt.Y("y:Q", axis=None, scale=alt.Scale(zero=False)),
            color=alt.Color("group:N", title=None, scale=alt.Scale(scheme="tableau20"), legend=_LEGEND),
        )
    )
    chart = chart.add_params(choice) if len(groups) > 1 else chart.add_params(alt.param(name="colored", value=first))
    words = f"{len(rows):,} images as points; near ones are alike to the encoder."
    return Chart(title, words, _finished(chart, title, 460))


_LEGEND = alt.Legend(orient="bottom", columns=2, labelLimit=260, symbolOpacity=1)


def _finished(chart: Any, words: str, height: int = HEIGHT) -> dict[str, Any]:
    """The chart as wide as its place."""
    return chart.properties(width="container", height=height, description=words).to_dict()
