"""A call of the queue: what it measures, on which device, and where its lines go."""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import numpy as np
import torch

from bench.gpu.items import COMPILER, FASHION, absent, items
from bench.gpu.needs import ROOT, SET, download
from bench.gpu.place import Place
from bench.gpu.queue import Item, Line, lines_in, measured, unmeasured
from bench.gpu.worker import Worker
from bench.machine import commit, slug
from sanslabel.errors import BadInput
from sanslabel.sources import Request, open_source

RESULTS = ROOT / "bench" / "results" / "gpu"
REMEDIES = {
    COMPILER: "apt-get install g++",
    FASHION: f"python -m bench.gpu --bring DIR, where Debian's package dataset-fashion-mnist is, and --data DIR/{SET}",
}
"""how to meet a need that is no package"""


def run(out: Path, deadline: float, data: str | None, known_commit: str | None) -> None:
    """Measures the next items on the GPU until the deadline, in seconds of time.monotonic."""
    if not torch.cuda.is_available():
        sys.exit("no CUDA device here; --rehearse runs all items on the CPU at toy size")
    about = _about(torch.cuda.get_device_name(), known_commit or commit())
    if not about["commit"]:
        sys.exit("git does not know the commit here; give it: --commit $(git rev-parse --short HEAD)")
    place = Place("cuda", data or installed_fashion())
    lines = [*lines_in(RESULTS), *lines_in(out)]
    _measured(unmeasured(items(), lines, about["commit"]), lines, place, about, out, deadline)


def rehearse(out: Path | None = None) -> None:
    """Measures all items on the CPU at toy size. Exits with 1 if one fails."""
    with TemporaryDirectory() as folder:
        about = _about("rehearsal", commit())
        _measured(items(), [], Place("cpu", None, toy=True), about, out or Path(folder), math.inf)


def bring(folder: Path) -> Path:
    """Writes all of Fashion-MNIST into a file of the folder, 31 MB, and returns the file. Raises BadInput if it is not
    installed here."""
    arrays = {}
    for prefix, split in (("", "train"), ("test_", "test")):
        source = open_source("fashion-mnist", split)
        pixels = source.load(Request(torch.arange(len(source)))).images.pixels
        arrays |= {f"{prefix}images": pixels[:, 0].numpy(), f"{prefix}labels": source.labels.numpy()}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / SET, **arrays, classes=np.array(source.classes))
    return folder / SET


def installed_fashion() -> str | None:
    """Returns the name of Fashion-MNIST if it is installed here, else None."""
    try:
        open_source("fashion-mnist", "test")
    except BadInput:
        return None
    return "fashion-mnist"


def _measured(
    missing: Sequence[Item],
    lines: Sequence[Line],
    place: Place,
    about: Mapping[str, Any],
    out: Path,
    deadline: float,
) -> None:
    """Measures items, prints a sentence for each, and exits with 1 if one fails. SIGTERM ends it after the lines that
    are written."""
    todo = _possible(missing, place)
    print(f"{about['device']}: {len(todo)} items to measure", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    file, failed = out / f"{slug(about['device'])}-{datetime.now():%Y-%m-%d-%H%M%S}.jsonl", 0
    with TemporaryDirectory() as scratch, _ended_by_sigterm():
        worker = Worker(place, out / "items.log", Path(scratch))
        try:
            for line in measured(todo, lines, worker, about, file, deadline):
                outcome = line.get("error") or ("cut off" if "cut_off" in line else "measured")
                print(f"{line['item']}: {outcome}, {line['seconds']:.1f} s", flush=True)
                failed += "error" in line
        finally:
            worker.stop()
    print(file if file.exists() else "no item fits into this time")
    if failed:
        sys.exit(f"{failed} items failed; {out / 'items.log'} has the reasons")


def _possible(missing: Sequence[Item], place: Place) -> list[Item]:
    """Returns the items whose needs are met here, and prints what the others need."""
    needed: dict[str, list[str]] = {}
    for item in missing:
        for need in absent(item, place):
            needed.setdefault(need, []).append(item.name)
    for need, names in needed.items():
        print(f"{need} is missing for {', '.join(names)}; {REMEDIES.get(need, 'bring it as a wheel')}")
    if wheels := [need for need in needed if need not in REMEDIES]:
        print(f"to bring wheels: {download(wheels)}")
    return [item for item in missing if not absent(item, place)]


def _about(device: str, code: str) -> dict[str, Any]:
    """Returns what all lines of a call have in common."""
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda, "python": sys.version.partition(" ")[0]}
    return {"device": device, "commit": code, **versions, "on": datetime.now().date().isoformat()}


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Context manager in which SIGTERM ends the process as sys.exit does."""

    def end(number: int, frame: object) -> NoReturn:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
