"""A page that shows one run, or several side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import Any

import torch

from sanslabel.checkpoint import replacing
from sanslabel.device import chosen_device
from sanslabel.errors import BadInput, SanslabelError
from sanslabel.evaluation.table import heading, title_of
from sanslabel.generation.samples import drawn
from sanslabel.generation.trained import trained
from sanslabel.report import charts, pictures
from sanslabel.report.contents import Contents, contents
from sanslabel.report.curves import curves
from sanslabel.report.embedding_map import embedding_map
from sanslabel.report.page import Page, note, strips, table
from sanslabel.report.replay import replayed

__all__ = ["report"]

SAMPLES, ENERGIES = 32, 1000


def report(
    *runs: str | Path,
    out: str | Path | None = None,
    data: str | None = None,
    points: int = 5000,
    seed: int = 0,
    device: str | None = None,
    tell: Callable[[str], None] | None = None,
) -> Path:
    """Writes one HTML file about run folders, by default report.html in the first: verdicts, curves, views, scores, a
    map of the embedding with neighbors, and samples and energies of generative methods. It needs no network.

    data: images of the maps, by default those that each run was trained on. points: in all maps together. device: that
    encoders run on. tell: hears what is done next. What an unfinished run has not is left out, and the page says so.
    BadInput for a folder without a run, DiskError.
    """
    if missing := [name for name in ("altair", "vl_convert") if find_spec(name) is None]:
        raise BadInput(f'The page needs {" and ".join(missing)}; pip install "sanslabel[report]".')
    if not runs:
        raise BadInput("report: name the folder of a run.")
    if points < 2:
        raise BadInput(f"--points {points}: must be at least 2.")
    path = Path(out) if out is not None else Path(runs[0]) / "report.html"
    if path.suffix not in {".html", ".htm"}:
        raise BadInput(f"--out {path}: the page is written as .html.")
    tell, where = tell or (lambda sentence: None), chosen_device(device)
    found = [contents(run, name) for run, name in zip(runs, _names(runs), strict=True)]
    page = Page(", ".join(run.name for run in found))
    page.head += [_verdict(run) for run in found]
    page.add("Runs", _facts(found))
    page.add("Scores", *_scores(found))
    page.add("Training", page.grid(curves(found)))
    for run in found:
        of = f" of {run.name}" if len(found) > 1 else ""
        tell(f"Drawing what {run.name} was shown")
        page.add(f"What the method saw{of}", *_views(run, page))
        count = max(2, points // len(found))
        page.add(f"What the encoder finds alike{of}", *_map(run, page, data, count, seed, where, tell))
        page.add(f"What the model makes{of}", *_made(run, page, seed, tell))
    page.add("Stages", page.grid(charts.stages(found)))
    with replacing(path) as partial:
        partial.write_text(page.html(), encoding="utf-8")
    return path


def _names(runs: Sequence[str | Path]) -> list[str]:
    """Of the folders, as short as tells them apart."""
    paths = [Path(run).resolve() for run in runs]
    for depth in range(1, max(len(path.parts) for path in paths)):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{path.name} ({i})" for i, path in enumerate(paths, 1)]


def _verdict(run: Contents) -> str:
    found = run.verdict
    kind = "failed" if found.failed else "waiting" if run.unfinished or found.name != "healthy" else ""
    said = f"<p><strong>{escape(run.name)}</strong> {escape(found.sentence)}</p>"
    if run.unfinished:
        said += f"<p>This run has not ended: step {run.done:,} of {run.steps:,}. What follows is what there is.</p>"
    return f'<div class="verdict {kind}">{said}</div>'


def _facts(runs: Sequence[Contents]) -> str:
    head = ["run", "method", "data", "images", "encoder", "epochs", "batch", "steps", "loss", "spread", "rank", "seed"]
    return table(head, [list(_row(run)) for run in runs])


def _row(run: Contents) -> Iterator[str]:
    said, last = run.said, run.lines[-1] if run.lines else {}
    yield run.name
    yield from (said["method"], Path(said["data"]).name, f"{said['samples']:,}", str(said["encoder"].get("name", "")))
    yield from (f"{said['epochs']:,}", f"{said['batch']:,}", f"{run.done:,} of {run.steps:,}")
    for key in ("loss", "embedding_std", "effective_rank"):
        values = [v for k, v in last.items() if k.rpartition("/")[2] == key and isinstance(v, int | float)]
        yield " / ".join(f"{value:.4g}" for value in values)
    yield str(said["seed"])


def _scores(runs: Sequence[Contents]) -> Iterator[str]:
    """A table for each labeled set and kind of protocol, with a row for each representation of each run. Of a figure
    that was measured with several settings the last counts."""
    found = [(run, score) for run in runs for score in run.scores if score["stage"] is None]

    def kind(score: Mapping[str, Any]) -> tuple[Any, ...]:
        apart = score["protocol"] if title_of(score["protocol"]) else ""
        return score["data"], score["fingerprint"], apart

    for asked in dict.fromkeys(kind(score) for _, score in found):
        of = [(run, score) for run, score in found if kind(score) == asked]
        columns = list(dict.fromkeys((s["protocol"], s["metric"], s["labels_per_class"]) for _, s in of))
        cells = {(run.name, s["representation"], s["protocol"], s["metric"], s["labels_per_class"]): s for run, s in of}
        first, title = of[0][1], title_of(asked[2]).format(data=asked[0]) or "In %"
        yield table(
            ["run", "representation", *(heading(few, p, metric, bool(asked[2])) for p, metric, few in columns)],
            [
                [*row, *(_cell(cells.get((*row, *column))) for column in columns)]
                for row in dict.fromkeys((run.name, s["representation"]) for run, s in of)
            ],
            f"{title}, on {first['n_test']:,} images of {asked[0]} ({first['split']}).",
        )
    if not any(run.scores for run in runs):
        yield note("Nothing was measured yet: sanslabel evaluate RUN.")


def _cell(score: Any) -> str:
    if score is None or score["value"] is None:
        return ""
    return f"{score['value']:.2f}" + ("" if score["spread"] is None else f" ± {score['spread']:.2f}")


def _views(run: Contents, page: Page) -> Iterator[str]:
    try:
        shown = replayed(run)
    except SanslabelError as error:
        yield note(f"Not drawn: {error}")
        return
    yield strips({name: pictures.row(images) for name, images in shown.items()})
    yield note(
        "Of the run's last batch; draws are functions of the seed and the step, so that these are those of then."
    )
    if (
        nats := next((v for k, v in (run.lines[-1] if run.lines else {}).items() if k == "kl_by_dimension"), None)
    ) is not None:
        yield page.grid([charts.bars("What each number of the code says", nats, "nats")])


def _map(
    run: Contents,
    page: Page,
    data: str | None,
    count: int,
    seed: int,
    device: torch.device,
    tell: Callable[[str], None],
) -> Iterator[str]:
    if not run.exported:
        yield note("No map: the run has no encoder yet, which is written at its end.")
        return
    try:
        found = embedding_map(run, data, count, seed, device, tell)
    except SanslabelError as error:
        yield note(f"No map: {error}")
        return
    yield page.map(found)
    if found.spectrum is not None:
        yield page.grid([found.spectrum])
    if found.confusion is not None:
        yield page.figure(found.confusion)


def _made(run: Contents, page: Page, seed: int, tell: Callable[[str], None]) -> Iterator[str]:
    """Samples, reconstructions and energies, of a generative method with a checkpoint."""
    try:
        model = trained(run.path, "cpu")
    except BadInput:
        return
    tell(f"Drawing samples of {run.name}")
    shown, energies = {}, {}
    try:
        source = model.source(split=None)
        some = source.subset(torch.arange(min(ENERGIES, len(source))))
        images, _ = model.told({"": lambda x: x.flatten(1)}, some)
        real = images[""].view(-1, model.channels, model.size, model.size)
    except SanslabelError as error:
        yield note(f"Without data: {error}")
        real = None
    try:
        fake = drawn(model, min(ENERGIES, len(real)) if real is not None else SAMPLES, seed)
        shown["samples"] = pictures.row(fake[: SAMPLES // 2])
    except BadInput:
        fake = None
    yield strips(shown)
    try:
        for name, of in {"data": real, "samples": fake}.items():
            if of is not None:
                energies[name] = model.made(lambda x: model.method.energies(model.net, x), of).tolist()
    except BadInput:
        return
    if energies := {
        name: [x for x in values if isfinite(x)] for name, values in energies.items() if any(map(isfinite, values))
    }:
        yield page.grid([charts.histogram(energies, model.method.unit)])
