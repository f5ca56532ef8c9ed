"""The report: one HTML page about one run or several."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from sanslabel.checkpoint import replacing
from sanslabel.device import chosen_device
from sanslabel.errors import BadInput, UnfinishedWarning

THUMBNAIL_BYTES = 16_000_000
"""bytes of all thumbnails of a page, about; the page as a whole then stays below 25 MB"""


def report(
    *runs: str | Path,
    out: str | Path | None = None,
    data: str | None = None,
    points: int = 5000,
    seed: int = 0,
    device: str | None = None,
    log: Callable[[str], None] | None = None,
) -> Path:
    """Writes one HTML file about run folders and returns its path.

    The page shows verdicts, a map of the pictures with neighbors, scores, curves and views. For generative methods it
    also shows samples and energies. It needs no network. A page of 5,000 pictures takes at most 25 MB. If an
    unfinished run does not have something yet, a sentence stands in its place.

    out: the file, by default report.html in the first run folder. data: images of the maps, by default those that each
    run was trained on. points: images in all maps together. seed: the seed that draws these images. device: the device
    that encoders run on. log: receives a sentence before each step that takes long. Raises BadInput for a folder
    without a run, and DiskError if the file cannot be written.
    """
    if missing := [name for name in ("altair", "vl_convert") if find_spec(name) is None]:
        raise BadInput(f'a report needs {" and ".join(missing)}; pip install "sanslabel[report]".')
    if not runs:
        raise BadInput("report: name the folder of a run.")
    if points < 2:
        raise BadInput(f"--points {points}: must be at least 2.")
    path = Path(out) if out is not None else Path(runs[0]) / "report.html"
    if path.suffix not in {".html", ".htm"}:
        raise BadInput(f"--out {path}: must end in .html.")
    from sanslabel.report.assembly import assembled  # imports the packages that may be missing
    from sanslabel.report.colors import hue
    from sanslabel.report.options import Options
    from sanslabel.report.snapshot import snapshot

    snapshots = [snapshot(run, name, hue(i)) for i, (run, name) in enumerate(zip(runs, short_names(runs), strict=True))]
    options = Options(
        data=data,
        points=max(2, points // len(runs)),
        seed=seed,
        device=chosen_device(device),
        folder=path.parent,
        thumbnail_bytes=THUMBNAIL_BYTES // len(runs),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnfinishedWarning)  # the page has a sentence of its own
        page = assembled(snapshots, options, log or (lambda sentence: None))
    with replacing(path) as partial:
        partial.write_text(page.html(), encoding="utf-8")
    return path


def short_names(runs: Sequence[str | Path]) -> list[str]:
    """Returns a name for each folder: the shortest end of its path for which all names differ."""
    paths = [Path(run).resolve() for run in runs]
    for depth in range(1, max(len(path.parts) for path in paths)):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{path.name} ({i})" for i, path in enumerate(paths, 1)]
