"""docs/learning.md: every method beside its own start, made of the lines that `bench.learns` has written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from bench.gpu.page import learned
from bench.gpu.queue import lines_in
from bench.learning_tasks import BASELINES, CPU, CUDA, Line, Setting, settings
from bench.markdown import table
from sanslabel import methods
from sanslabel.evaluation.gains import student_quantile

HEAD = Path(__file__).parent / "learning.head.md"
LONGER = Path(__file__).parent / "longer.head.md"
TUNED = Path(__file__).parent / "tuning.head.md"
PROTOCOLS = {"knn": "kNN", "linear": "linear"}
STALE = "†"
"""the mark of methods that were trained under earlier settings"""


@dataclass(frozen=True)
class Paired:
    """The differences of trained encoders to their own starts, one for each seed, in points."""

    differences: tuple[float, ...]

    @property
    def interval(self) -> tuple[float, float] | None:
        """Returns the ends of Student's 95 % interval of the mean over seeds; None for fewer than two seeds."""
        if len(self.differences) < 2:
            return None
        spread = stdev(self.differences) / len(self.differences) ** 0.5
        margin = student_quantile(len(self.differences) - 1) * spread
        return fmean(self.differences) - margin, fmean(self.differences) + margin

    @property
    def cell(self) -> str:
        """Returns the mean and its interval, as the table has them; empty if the start was not measured."""
        if not self.differences:
            return ""
        ends = self.interval
        return f"{fmean(self.differences):+.1f}" + ("" if ends is None else f" ({ends[0]:+.1f} to {ends[1]:+.1f})")

    @property
    def remark(self) -> str:
        """Returns words on a gain that is not above 0 by more than the spread of seeds, else an empty text."""
        if not self.differences:
            return "start not measured"
        ends = self.interval
        if ends is None:
            return "one seed"
        return "below its own start" if ends[1] < 0 else "no gain beyond the spread of seeds" if ends[0] <= 0 else ""


def page(lines: Sequence[Line], longer: Sequence[Line] = (), tuned: Sequence[Line] = ()) -> str:
    """Returns the text of docs/learning.md.

    longer: results of trainings that took longer than those of the table. tuned: those of `bench.tuning`.
    """
    text = HEAD.read_text()
    for device in sorted({line["device"] for line in lines}, key=lambda name: name != "cpu"):
        setting = CPU if device == "cpu" else CUDA
        title = setting.title if device == "cpu" else f"{setting.title}, {device}"
        text += f"\n## {title}: {setting.samples:,} images\n\n"
        text += tables([line for line in lines if line["device"] == device], setting)
    if longer:
        text += f"\n{LONGER.read_text()}\n{longer_table(longer, lines)}\n"
    if tuned:
        text += f"\n{TUNED.read_text()}\n{tuning_table(tuned)}\n"
    return f"{text}\n{learned(lines_in(HEAD.parent / 'results' / 'gpu'))}"


def tables(lines: Sequence[Line], setting: Setting) -> str:
    """Returns the table of all rows, and the table of the starts."""
    took = "core seconds" if not lines or lines[0]["device"] == "cpu" else "seconds"
    head = ["family", "method", "encoder", "reading", "steps", took]
    head += [cell for name in PROTOCOLS.values() for cell in (name, f"{name}: gain over own start")]
    text = table([*head, "own task", "remark"], rows(lines, setting)) + "\n"
    if any(STALE in row[1] for row in rows(lines, setting)):
        text += f"\n{STALE} Trained under earlier settings; `python -m bench.learns METHOD` trains it again.\n"
    starts = table(["encoder", "reading", *PROTOCOLS.values(), "start of"], start_rows(lines))
    return f"{text}\n### Own starts\n\n{starts}\n"


def longer_table(longer: Sequence[Line], lines: Sequence[Line]) -> str:
    """Returns the table of longer trainings. lines: results of the shorter ones, with the starts of both."""
    by_length: dict[tuple[str, int, str], list[Line]] = {}
    for line in longer:
        by_length.setdefault((line["method"], line["steps"], line["settings"]), []).append(line)
    made = []
    for (method, _, _), measured in sorted(by_length.items()):
        for cells in _cells(measured, lines):
            made.append([method, str(len(measured)), *cells])
            method = ""
    head = [cell for name in PROTOCOLS.values() for cell in (name, f"{name}: gain over own start")]
    return table(["method", "seeds", "encoder", "reading", "steps", "core seconds", *head, "own task", "remark"], made)


def tuning_table(lines: Sequence[Line]) -> str:
    """Returns the table of recipes with one setting changed, from the lines of `bench.tuning`, in their order."""
    by_change: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        by_change.setdefault((line["method"], line["change"]), []).append(line["scores"])
    made = [
        [method, change, str(len(of)), *(spread([scores[protocol] for scores in of]) for protocol in PROTOCOLS)]
        for (method, change), of in by_change.items()
    ]
    return table(["method", "change", "seeds", *PROTOCOLS.values()], made)


def rows(lines: Sequence[Line], setting: Setting) -> list[list[str]]:
    """Returns a row for each representation, those of baselines and of the supervised reference first."""
    keys = {(line["method"], line.get("encoder", "")) for line in lines if line["state"] != "start"}
    made = []
    for method, encoder in sorted(keys, key=lambda key: _place(*key)):
        measured, stale = latest(lines, method, encoder, setting)
        family, name = _family(method), method + STALE * stale
        for cells in _cells(measured, lines):
            made.append([family, name, *cells])
            family = name = ""
    return made


def latest(lines: Sequence[Line], method: str, encoder: str, setting: Setting) -> tuple[list[Line], bool]:
    """Returns the lines of the present settings, or those of the latest earlier settings and True. Of several lines of
    a seed, the last counts."""
    of = [line for line in lines if (line["method"], line.get("encoder", "")) == (method, encoder)]
    of = [line for line in of if line["state"] != "start"]
    now = settings(method, setting, encoder)
    digest = now if any(line["settings"] == now for line in of) else of[-1]["settings"]
    by_seed = {line["seed"]: line for line in of if line["settings"] == digest}
    return [by_seed[seed] for seed in sorted(by_seed)], digest != now


def gains(measured: Sequence[Line], lines: Sequence[Line], representation: str, protocol: str) -> Paired:
    """Returns the gains of a method's representation over its own start with the same seed."""
    method, encoder = measured[0]["method"], measured[0].get("encoder", "")
    starts = {
        line["seed"]: line["scores"]
        for line in lines
        if (line["state"], line["method"], line.get("encoder", "")) == ("start", method, encoder)
    }
    pairs = [(line["scores"], starts[line["seed"]]) for line in measured if line["seed"] in starts]
    return Paired(
        tuple(
            trained[representation][protocol] - start[representation][protocol]
            for trained, start in pairs
            if representation in start
        )
    )


def start_rows(lines: Sequence[Line]) -> list[list[str]]:
    """Returns a row for each start, with all methods that begin with these networks."""
    by_method: dict[tuple[str, str, str], dict[int, dict[str, float]]] = {}
    for line in lines:
        for name, values in line["scores"].items() if line["state"] == "start" else ():
            by_method.setdefault((line["encoder"], line["method"], name), {})[line["seed"]] = values
    same: dict[str, list[tuple[str, str, str]]] = {}
    for key, by_seed in by_method.items():
        same.setdefault(f"{key[0]} {sorted(by_seed.items())}", []).append(key)
    made = []
    for keys in same.values():
        values = list(by_method[keys[0]].values())
        networks = [(method, name.partition(",")[0]) for _, method, name in keys]
        names = [method + ("" if network == "student" else f" ({network})") for method, network in networks]
        reading = keys[0][2].partition(", ")[2] or "full images"
        accuracy = [spread([value[protocol] for value in values]) for protocol in PROTOCOLS]
        made.append([keys[0][0], reading, *accuracy, ", ".join(names)])
    return sorted(made, key=lambda row: row[:2])


def spread(values: Sequence[float], form: str = "{:.1f}") -> str:
    """Returns mean ± deviation over seeds; empty without values."""
    if not values:
        return ""
    return form.format(fmean(values)) + (f" ± {form.format(stdev(values))}" if len(values) > 1 else "")


def _cells(measured: Sequence[Line], lines: Sequence[Line]) -> Iterator[list[str]]:
    """Yields the cells of each representation in the runs of one method with one encoder."""
    first: Any = measured[0]
    pretext = [line["own_accuracy"] for line in measured if line.get("own_accuracy") is not None]
    took = "core_seconds" if first["device"] == "cpu" else "seconds"
    seconds = f"{fmean(line[took] for line in measured):.0f}" if took in first else ""
    for representation in first["scores"]:
        accuracy, remarks = [], {}
        for protocol, name in PROTOCOLS.items():
            paired = gains(measured, lines, representation, protocol)
            accuracy.append(spread([line["scores"][representation][protocol] for line in measured]))
            accuracy.append(paired.cell)
            if first["state"] == "trained" and paired.remark:
                remarks.setdefault(paired.remark, []).append(name)
        words = "; ".join(f"{' and '.join(names)}: {remark}" for remark, names in remarks.items())
        steps = str(first.get("steps", ""))
        yield [first.get("encoder", ""), representation, steps, seconds, *accuracy, spread(pretext), words]


def _family(method: str) -> str:
    return "baseline" if method in BASELINES else methods.method_class(method).family


def _place(method: str, encoder: str) -> tuple[int, str, str, str]:
    """Returns the sorting key of a method in the table: baselines and the supervised reference come first."""
    family = _family(method)
    if method in BASELINES:
        return BASELINES.index(method), family, method, encoder
    return (2 if family == "supervised" else 3), family, method, encoder
