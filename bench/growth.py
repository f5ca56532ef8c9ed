"""Measures how time and memory grow: python -m bench.growth

Losses grow with the batch and the width of embeddings, memories with their length, sources with their samples. Each
size runs in a process of its own, so that no peak of memory hides another. The exponent of t ~ n^p is the slope of a
line through the upper half of the sizes on logarithmic axes.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from bench.alone import alone, peak
from bench.interleaving import CPU, finish
from bench.markdown import table
from bench.running import prepared
from sanslabel import losses
from sanslabel.engine import optimize
from sanslabel.evaluation.knn import predictions
from sanslabel.losses.chunking import large
from sanslabel.memory import Bank, Queue
from sanslabel.methods.simclr import SimCLR
from sanslabel.randomness import permutation
from sanslabel.sources import batches, open_source
from sanslabel.training.determinism import reproducible

LEAST, MOST = 0.5, 20
"""seconds for which a size is repeated, and how often at most; it runs once at least"""
ROUNDS = 3
MEGABYTE = 1 << 20
LEAST_BYTES, LEAST_SECONDS = 16 * MEGABYTE, 1e-3
"""the least memory and time that have a law: less memory is what the allocator keeps, less time is Python's calls"""
Work = Callable[[], Any]


def trained(work: Callable[[int, torch.device], Iterator[Work]]) -> Callable[[int, torch.device], Iterator[Work]]:
    """Returns the work under the conditions of training, for work that is done while a run trains."""

    @wraps(work)
    def under(n: int, device: torch.device) -> Iterator[Work]:
        with reproducible(device):
            yield from work(n, device)

    return under


@trained
def nt_xent(n: int, device: torch.device) -> Iterator[Work]:
    a, b = _drawn(n, 128, device), _drawn(n, 128, device)
    yield lambda: losses.nt_xent(a, b, 0.2).backward()


@trained
def sinkhorn(n: int, device: torch.device) -> Iterator[Work]:
    prototypes = normalize(_drawn(3000, 128, device).detach(), dim=1)
    scores = normalize(_drawn(n, 128, device).detach(), dim=1) @ prototypes.T
    yield lambda: losses.sinkhorn(scores)


@trained
def simclr(n: int, device: torch.device) -> Iterator[Work]:
    source, method = open_source("fashion", "train"), SimCLR.under(SimCLR.small)
    records = optimize(*prepared(method, SimCLR.small, source, "conv", size=28, batch=n, device=device))
    yield lambda: next(records)


@trained
def barlow_twins(d: int, device: torch.device) -> Iterator[Work]:
    a, b = _drawn(256, d, device), _drawn(256, d, device)
    yield lambda: losses.barlow_twins(a, b).backward()


@trained
def vicreg(d: int, device: torch.device) -> Iterator[Work]:
    a, b = _drawn(256, d, device), _drawn(256, d, device)
    yield lambda: losses.vicreg(a, b).backward()


@trained
def queue(k: int, device: torch.device) -> Iterator[Work]:
    remembered, q, key = Queue(k, 128).to(device), _drawn(256, 128, device), _drawn(256, 128, device).detach()

    def step() -> None:
        losses.info_nce(q, key, remembered.embeddings, 0.2).backward()
        remembered.push_(key)

    yield step


@trained
def softmax_over_bank(n: int, device: torch.device) -> Iterator[Work]:
    bank, q, target = Bank(n, 128).to(device), _drawn(256, 128, device), torch.arange(256, device=device)
    yield lambda: losses.instance_discrimination(q, bank.embeddings, target, 0.1).backward()


@trained
def write(n: int, device: torch.device) -> Iterator[Work]:
    bank, index, z = Bank(n, 128).to(device), permutation(0, n)[:256].to(device), _drawn(256, 128, device)
    yield lambda: bank.write_(index, z, 0.5)


def neighbors(n: int, device: torch.device) -> Iterator[Work]:
    bank, labels = torch.empty(n, 128, device=device), torch.arange(n, device=device) % 1000
    for chunk in bank.split(10_000):
        chunk.normal_()
    queries = bank[:200].clone()
    yield lambda: predictions(bank, labels, queries, classes=1000)


def opening(n: int, device: torch.device) -> Iterator[Work]:
    with _repeated(n) as file:
        yield lambda: open_source(file)


def standardization(n: int, device: torch.device) -> Iterator[Work]:
    with _repeated(n) as file:
        source = open_source(file)
        yield source.standardization


@trained
def order(n: int, device: torch.device) -> Iterator[Work]:
    yield lambda: permutation(0, n)


@trained
def a_batch(n: int, device: torch.device) -> Iterator[Work]:
    with _repeated(n) as file:
        stream = batches(open_source(file), 256, seed=0, epochs=10**6, device=device)
        next(stream)  # the permutation
        yield lambda: [next(stream) for _ in range(20)]


def _drawn(count: int, width: int, device: torch.device) -> Tensor:
    return torch.randn(count, width, device=device).requires_grad_()


@contextmanager
def _repeated(n: int) -> Iterator[Path]:
    """Context manager for a file of n images of Fashion-MNIST, repeated, each time brighter."""
    images = open_source("fashion", "train").images[:, 0].numpy()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "repeated.npy"
        with path.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (n, *images.shape[1:])}
            np.lib.format.write_array_header_1_0(file, header)
            for begin in range(0, n, len(images)):
                file.write((images[: n - begin] + np.uint8(begin // len(images))).tobytes())
        yield path


BATCHES = tuple(64 << i for i in range(7))
WIDTHS = tuple(128 << i for i in range(7))
LENGTHS = tuple(1024 << i for i in range(7))
SAMPLES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
SORT = 1.08
"""the exponent that n ln n has between 100,000 and a million"""


@dataclass(frozen=True)
class Curve:
    name: str
    work: Callable[..., Iterator[Work]]
    axis: str
    sizes: tuple[int, ...]
    time: float
    """the expected exponent of time"""
    memory: float
    """the expected exponent of memory"""
    why: str = ""
    scores: Callable[[int], int] | None = None
    """number of scores of a size; many are computed in chunks, which is another program"""


CURVES = [
    Curve("SimCLR step, convnet", simclr, "batch", BATCHES, 1, 1),
    Curve("NT-Xent", nt_xent, "batch", BATCHES, 2, 1, "all pairs, by definition; in chunks", lambda n: (2 * n) ** 2),
    Curve(
        "Sinkhorn, 3,000 prototypes", sinkhorn, "batch", BATCHES, 1, 1, "6 to 47 MiB of scores, more than caches have"
    ),
    Curve(
        "Barlow Twins, N = 256", barlow_twins, "width of the embedding", WIDTHS, 1, 1, "by N x N products from D = N on"
    ),
    Curve("VICReg, N = 256", vicreg, "width of the embedding", WIDTHS, 1, 1, "by N x N products from D = N on"),
    Curve("InfoNCE and push", queue, "length of the queue", LENGTHS, 1, 0, "in chunks"),
    Curve("softmax over the bank", softmax_over_bank, "rows of the bank", SAMPLES, 1, 0, "in chunks"),
    Curve("kNN of 200 queries", neighbors, "rows of the bank", SAMPLES, 1, 0, "in chunks"),
    Curve("writing 256 rows", write, "rows of the bank", SAMPLES, 0, 0),
    Curve("opening a .npy", opening, "samples", SAMPLES, 1, 1, "all of it is read"),
    Curve("standardization", standardization, "samples", SAMPLES, SORT, 1, "reads 512 of them, in an order of all"),
    Curve("an epoch's order", order, "samples", SAMPLES, SORT, 1, "a sort: n ln n"),
    Curve("20 batches of 256", a_batch, "samples", SAMPLES, 0, 0),
]


def _run(work: Callable[..., Iterator[Work]], size: int, smallest: int, device: torch.device, host: bool):
    """Returns the seconds of one size in this process, and its peak of memory above that before."""
    of = CPU if host else device
    for step in work(smallest, device):  # what the first call loads does not count
        step()
    with closing(work(size, device)) as made:  # pyright: ignore[reportArgumentType]
        step = next(made)
        before = peak(of, fresh=True)
        seconds, began = [], time.perf_counter()
        while len(seconds) < 2 or (time.perf_counter() - began < LEAST and len(seconds) < MOST):
            start = time.perf_counter()
            step()
            finish(device)
            seconds.append(time.perf_counter() - start)
            if sum(seconds) > 10:
                break
        return median(seconds[1:] or seconds), max(0, peak(of) - before)


def measured(curve: Curve, device: torch.device) -> dict[str, Any]:
    """Returns the line of a curve, up to the largest size that fits into memory: medians over rounds through its sizes,
    up, down and up again, so that a drift of the machine does not look like growth."""
    sizes, results = list(curve.sizes), {size: [] for size in curve.sizes}
    for turn in range(ROUNDS):
        for size in reversed(sizes) if turn % 2 else sizes:
            one = alone(_run, curve.work, size, curve.sizes[0], device, curve.axis == "samples")
            if one is None:
                sizes = [smaller for smaller in sizes if smaller < size]
                break
            results[size].append(one)
    return {
        "case": curve.name,
        "axis": curve.axis,
        "sizes": sizes,
        "seconds": [median(seconds for seconds, _ in results[size]) for size in sizes],
        "bytes": [median(memory for _, memory in results[size]) for size in sizes],
        "parts_from": next((n for n in sizes if curve.scores and large(curve.scores(n), device)), 0),
    }


def exponent(sizes: Sequence[int], values: Sequence[float], least: float) -> float | None:
    """Returns p of values ~ sizes^p over the upper half of three sizes or more; None if all values are below `least`,
    where differences cannot be measured."""
    last = max(3, -(-len(sizes) // 2))
    if len(sizes) < last or max(values[-last:]) < least:
        return None
    x, y = np.log(sizes[-last:]), np.log(np.maximum(values[-last:], least / 16))
    return float(np.polyfit(x, y, 1)[0])


def lines(device: torch.device) -> Iterator[dict[str, Any]]:
    for curve in CURVES:
        yield measured(curve, device)


def section(results: list[dict[str, Any]]) -> str:
    curves, table_rows = {curve.name: curve for curve in CURVES}, []
    for line in (line for line in results if line["sizes"]):
        curve, last = curves[line["case"]], f"{line['sizes'][-1]:,}"
        cells = [curve.name, curve.axis, f"{line['seconds'][-1] * 1000:,.1f} ms at {last}"]
        time_law, memory_law = _law(line, "seconds", LEAST_SECONDS), _law(line, "bytes", LEAST_BYTES)
        cells += [time_law, f"{curve.time:g}", f"{line['bytes'][-1] / MEGABYTE:,.0f} MiB"]
        table_rows.append([*cells, memory_law, f"{curve.memory:g}", curve.why])
    return f"{TEXT}\n{table(HEAD, table_rows, right=range(2, 8))}\n"


def _law(line: dict[str, Any], unit: str, least: float) -> str:
    points = [
        (size, value) for size, value in zip(line["sizes"], line[unit], strict=True) if size >= line["parts_from"]
    ]
    p = exponent([size for size, _ in points], [value for _, value in points], least)
    return "too little to measure" if p is None else f"{p:.2f}"


TEXT = f"""## Growth

Each size runs in a process of its own, {ROUNDS} times in rounds through all sizes. Shown are medians of the time of a
call, itself a median, and of the peak of memory above that of the process with its inputs. Less than 1 MiB is drawn as
1. Work that is done while a run trains is done under the same conditions, where the allocator keeps freed memory;
allocating it each time would double the time of Sinkhorn. The exponent p of t ~ n^p is fitted over the upper half of
the sizes, for NT-Xent over those that are computed in chunks, and stands beside the expected one. Less than
{LEAST_BYTES // MEGABYTE} MiB or {1e3 * LEAST_SECONDS:g} ms is too little to measure. Losses are forward and backward,
with embeddings of width 128 unless the width grows; queue and bank have 256 queries unless another number is given.
Samples are 28x28 gray images in one .npy file, those of Fashion-MNIST repeated, each time brighter.
"""
HEAD = ("", "over", "time", "p", "expected", "memory", "p", "expected", "")


PICTURE = "Time and memory over batch, width, queue, bank and samples"


def draw(results: list[dict[str, Any]], file: Path) -> None:
    """Draws time on the left and memory on the right, one row for each axis, and a curve for each line."""
    from matplotlib.figure import Figure

    results = [line for line in results if line["sizes"]]
    axes = list(dict.fromkeys(line["axis"] for line in results))
    figure = Figure(figsize=(10, 2.4 * len(axes)), layout="constrained")
    for axis, (left, right) in zip(axes, figure.subplots(len(axes), 2, squeeze=False), strict=True):
        chosen = [line for line in results if line["axis"] == axis]
        _panel(left, axis, "seconds", [(line["case"], line["sizes"], line["seconds"]) for line in chosen])
        mebibytes = [[max(b / MEGABYTE, 1) for b in line["bytes"]] for line in chosen]
        _panel(right, axis, "MiB", [(x["case"], x["sizes"], b) for x, b in zip(chosen, mebibytes, strict=True)])
    figure.savefig(file, dpi=120)


def _panel(axes: Any, axis: str, unit: str, curves: list[tuple[str, list[int], list[float]]]) -> None:
    for (_, sizes, values), color in zip(curves, COLORS, strict=False):
        axes.plot(sizes, values, "o-", color=color, markersize=3)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(axis)
    axes.set_ylabel(unit)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)
    if unit == "MiB":
        axes.set_ylim(bottom=0.8, top=max(20, axes.get_ylim()[1]))
    low, high = (math.log10(bound) for bound in axes.get_ylim())
    ends = [
        ((math.log10(values[-1]) - low) / (high - low), name, color)
        for (name, _, values), color in zip(curves, COLORS, strict=False)
    ]
    for height, name, color in _spread(ends, 1 / 7):
        axes.annotate(name, (1.03, height), xycoords="axes fraction", va="center", fontsize=8, color=color)


COLORS = ("#1d4ed8", "#c2410c", "#15803d", "#7e22ce")


def _spread(ends: list[tuple[float, str, str]], least: float) -> list[tuple[float, str, str]]:
    """Returns the labels of curves that end at these heights, each at least so far above the one before."""
    labels, above = [], -math.inf
    for end, label, color in sorted(ends):
        above = max(end, above + least)
        labels.append((above, label, color))
    return labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--axes", nargs="+", default=sorted({curve.axis for curve in CURVES}))
    parser.add_argument("--curves", nargs="+", default=[curve.name for curve in CURVES])
    flags = parser.parse_args()
    for curve in CURVES:
        if curve.axis in flags.axes and curve.name in flags.curves:
            print(json.dumps(measured(curve, torch.device(flags.device))), flush=True)


if __name__ == "__main__":
    main()
