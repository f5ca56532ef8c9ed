"""The tables of docs/performance.md and docs/learning.md that are made from the lines of the queue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bench.arithmetic import PEAKS
from bench.gpu import authors, exactness, learning, speed
from bench.gpu.items import items
from bench.gpu.queue import Line, is_measured
from bench.markdown import prose, table

COMMAND = "`python -m bench.gpu --minutes 9 --out DIR`"


def performance(lines: Sequence[Line]) -> str:
    """Returns the chapter on CUDA of docs/performance.md."""
    if not any(is_measured(line) for line in lines):
        return f"# CUDA\n\nNo GPU was at hand. {missing(lines, 'abcdf')}\n"
    texts = [section(lines) for section in (exact, views, steps, libraries, loops)]
    return "\n\n".join(filter(None, ["# CUDA", _occasions(lines), *texts, missing(lines, "abcdf")])) + "\n"


def learned(lines: Sequence[Line]) -> str:
    """Returns the section on a GPU of docs/learning.md."""
    measured = _of("e", lines)
    cells = [_pixels(line) for line in measured[:1]] + [cells for line in measured for cells in _learned(line)]
    head = ["method", "encoder", "device", "seconds", "loss of the first and last epoch", "representation"]
    head += ["kNN", "linear", "gain over own start, kNN", "linear"]
    texts = ["## One GPU: 60,000 images in color", prose(learning.__doc__), _occasions(measured)]
    texts += [table(head, cells, right=(3, 6, 7, 8, 9)) if cells else "", missing(lines, "e")]
    return "\n\n".join(filter(None, texts)) + "\n"


def exact(lines: Sequence[Line]) -> str:
    """Returns the section on methods that train on the GPU as on the CPU."""
    compiled = {_subject(line).removesuffix(", compiled"): line for line in _of("a", lines, compiled=True)}
    cells = []
    for line in _of("a", lines):
        name = _subject(line)
        equal = "yes" if line["difference"] <= exactness.BOUND else "no"
        row = [name, line["device"], str(line["steps"]), f"{line['difference']:.0e}", equal]
        row += ["yes" if line["resume_is_exact"] else "no", f"{line['loss']:.4g}", f"{line['bfloat16']:.4g}"]
        cells.append([*row, f"{compiled[name]['compiled']:.4g}" if name in compiled else ""])
    head = ["method", "device", "steps", "difference", f"below {exactness.BOUND:g}", "exact resume", "last loss"]
    return _section("Methods as on the CPU", exactness.__doc__, [*head, "in bfloat16", "compiled"], cells)


def views(lines: Sequence[Line]) -> str:
    """Returns the section on views."""
    cells = []
    for line in _of("b", lines):
        speeds = [f"{line['views_per_second'][name]:,.0f}" for name in ("bfloat16", "float32")]
        share = f"{100 * line['views_share']:.1f} %"
        cells.append([f"{_subject(line)}x{_subject(line)}", line["device"], *speeds, share, line["case"]])
    head = ["views a second", "device", "bfloat16", "float32", "share of a step", "the step"]
    return _section("Views on CUDA", speed.__doc__, head, cells)


def steps(lines: Sequence[Line]) -> str:
    """Returns the section on whole and bare steps."""
    cells = []
    for line in _of("c", lines) + _of("c", lines, compiled=True):
        low, middle, high = line["ratio_quartiles"]
        both = [f"{line['images_per_second'][side]:,.0f}" for side in ("whole", "bare")]
        peak = PEAKS.get(line["device"])
        used = f"{100 * line['operations'] * line['images_per_second']['whole'] / peak:.0f} %" if peak else ""
        name = line["case"] + (", compiled" if line["item"].endswith(", compiled") else "")
        cells.append([name, line["device"], *both, f"{middle:.3f} ({low:.3f} to {high:.3f})", used])
        cells[-1].append(f"{100 * line['utilization']:.0f} %")
    head = ["images a second", "device", "whole", "bare", "whole / bare", "MFU", "of measured products"]
    return _section("The whole step on CUDA", None, head, cells)


def libraries(lines: Sequence[Line]) -> str:
    """Returns the section on other libraries."""
    by_name = {_subject(line): line for line in _of("d", lines)}
    cells = [
        [f"views of {side}x{side}", line["device"], _pairs(speeds)]
        for name in ("kornia, views", "lightly, views")
        if (line := by_name.get(name))
        for side, speeds in line["views_per_second"].items()
    ]
    if line := by_name.get("lightly, step"):
        cells.append([f"images of {line['case']}", line["device"], _pairs(line["beside"])])
    return _section("Other libraries on CUDA", None, ["a second", "device", "here and there"], cells)


def loops(lines: Sequence[Line]) -> str:
    """Returns the section on the authors' loops."""
    cells = []
    for line in _of("f", lines):
        losses = [f"{losses[0]:.4g} to {losses[-1]:.4g}" for losses in line["losses"].values()]
        milliseconds = [f"{1000 * seconds:.1f}" for seconds in line["step_seconds"].values()]
        accuracies = [f"{score['knn']:.1f}" for score in line["scores"].values()]
        cells.append([_subject(line), line["device"], f"{line['first_difference']:.0e}", *losses, *accuracies])
        cells[-1] += milliseconds
    head = ["method", "device", "first difference", "loss here", "theirs", "kNN here", "theirs", "ms a step here"]
    return _section("The authors' loops", authors.__doc__, [*head, "theirs"], cells)


def missing(lines: Sequence[Line], kinds: str) -> str:
    """Returns the items of these kinds that have no line yet, and the errors of those that failed."""
    done = {line["item"] for line in lines if is_measured(line)}
    absent: dict[str, list[str]] = {}
    for item in items():
        kind, _, subject = item.name.partition("/")
        if kind in kinds and item.name not in done:
            absent.setdefault(kind, []).append(subject)
    texts = [f"* {kind}: {'; '.join(absent[kind])}" for kind in kinds if kind in absent and kind != "a"]
    for compiled in (True, False):  # without the names of methods, since every new one would change the page
        if any(subject.endswith(", compiled") == compiled for subject in absent.get("a", [])):
            some = " that the table lacks" if _of("a", lines, compiled) else ""
            texts.insert(0, f"* a: all methods{some}{', compiled' if compiled else ''}")
    failed = {line["item"]: line for line in lines if "error" in line and line["item"] not in done}
    errors = {name: f"at {line['commit']}: {line['error']}" for name, line in failed.items() if name[0] in kinds}
    texts += [f"* {name} failed {error}" for name, error in errors.items()]
    return "\n".join([f"{COMMAND} still has these items to measure:", "", *texts]) if texts else ""


def _pixels(line: Line) -> list[str]:
    """Returns the cells of raw pixels, which are the same beside every method."""
    return [
        *[""] * 5,
        "pixels",
        *(f"{line['scores']['pixels'][protocol]:.1f}" for protocol in ("knn", "linear")),
        "",
        "",
    ]


def _learned(line: Line) -> Iterator[list[str]]:
    """Yields the cells of the trained encoders of a method."""
    start = next(score for name, score in line["scores"].items() if name.startswith("random"))
    losses = f"{line['losses'][0]:.4g}, {line['losses'][-1]:.4g}"
    about = [_subject(line), line["encoder"], line["device"], f"{line['training_seconds']:.0f}", losses]
    for name, score in line["scores"].items():
        if name.startswith("trained"):
            values = [f"{score[protocol]:.1f}" for protocol in ("knn", "linear")]
            gains = [f"{score[protocol] - start[protocol]:+.1f}" for protocol in ("knn", "linear")]
            yield [*about, name.partition("(")[2].removesuffix(")"), *values, *gains]
            about = [""] * len(about)


def _section(title: str, docstring: str | None, head: list[str], cells: list[list[str]]) -> str:
    if not cells:
        return ""
    return "\n\n".join(filter(None, [f"## {title}", prose(docstring), table(head, cells)]))


def _of(kind: str, lines: Sequence[Line], compiled: bool = False) -> list[Line]:
    """Returns the lines with figures of a kind of item, in the order of the list; the last one of each item counts."""
    chosen = {line["item"]: line for line in lines if is_measured(line)}
    names = [item.name for item in items() if item.name[0] == kind and item.name.endswith(", compiled") == compiled]
    return [chosen[name] for name in names if name in chosen]


def _subject(line: Line) -> str:
    return line["item"].partition("/")[2]


def _pairs(speeds: dict[str, Any]) -> str:
    return ", ".join(f"{name} {speed:,.0f}" for name, speed in speeds.items())


def _occasions(lines: Sequence[Line]) -> str:
    """Returns with what, when and at which commits the lines were measured."""
    by_versions: dict[str, dict[str, None]] = {}
    for line in filter(is_measured, lines):
        versions = f"{line['device']}, torch {line['torch']}, CUDA {line['cuda']}, python {line['python']}"
        by_versions.setdefault(versions, {})[f"{line['on']} ({line['commit']})"] = None
    return "\n\n".join(f"Measured with {versions}: {', '.join(days)}." for versions, days in by_versions.items())
