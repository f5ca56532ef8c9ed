"""The files that a run writes line by line: its figures, and the samples that it could not read."""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sanslabel import diagnostics
from sanslabel.checkpoint import replacing
from sanslabel.distributed import gather_objects, rank, world_size
from sanslabel.engine import Record
from sanslabel.errors import DiskError
from sanslabel.figures import FIGURES
from sanslabel.json_lines import json_line, read_figures, read_json_lines
from sanslabel.methods.method import Objective
from sanslabel.verdict import WINDOW, Verdict, verdict

SEEN = 16
"""images that are looked at: all that is asked is whether they differ"""


class Metrics:
    """metrics.jsonl, cut back to the step that a resume starts from."""

    def __init__(self, path: Path, start: int) -> None:
        kept = _cut_back(path, read_figures(path), start)
        self.path, self.last = path, (start, time.monotonic())
        self.recent = deque(kept, maxlen=WINDOW)

    def age(self) -> float:
        """Seconds since the last line."""
        return time.monotonic() - self.last[1]

    def verdict(self) -> Verdict:
        """Of the run up to its newest line."""
        return verdict(self.recent)

    def add(self, record: Record, figures: Mapping[str, Any]) -> str:
        """Writes the record's figures beside others; those that a person follows, as text."""
        step, now = record.clock.step + 1, time.monotonic()
        then, before = self.last
        self.last = (step, now)
        speed = (step - then) * len(record.batch.index) * world_size() / (now - before)
        line: dict[str, Any] = {"step": step, "epoch": round(step / record.clock.steps_per_epoch, 4)}
        for objective, norm in zip(record.objectives, record.norms, strict=True):
            prefix = f"{objective.player}/" if objective.player else ""
            line |= {prefix + name: _finite(value.tolist()) for name, value in measured(objective, norm).items()}
            if objective.trivial is not None:
                line[f"{prefix}trivial"] = objective.trivial
        seen = record.batch.images().pixels[:SEEN]
        line["image_variation"] = diagnostics.variation(seen).item()
        line["image_contrast"] = _finite(diagnostics.contrast(seen).item())
        line |= {name: _finite(value) for name, value in figures.items()}
        line |= {"images_per_second": round(speed, 1), "refused": record.refused}
        _append(self.path, line)
        self.recent.append(line)
        words = [
            f"{player}{figure.short} {value:.3g}"
            for player in dict.fromkeys(f"{objective.player} ".lstrip() for objective in record.objectives)
            for figure in FIGURES.values()
            if figure.short and (value := line.get(player.replace(" ", "/") + figure.name)) is not None
        ]
        return "  ".join([*words, f"{speed:,.0f} images/s"])


def measured(objective: Objective, norm: Tensor) -> dict[str, Tensor]:
    """All that is watched of an objective whose gradient has this norm."""
    found = {"loss": objective.loss, "gradient_norm": norm, **objective.terms}
    if objective.embedding is not None:
        found |= diagnostics.measures(objective.embedding, objective.positive)
    images = objective.images
    if {"first view", "second view"} <= images.keys():
        first, second = (images[name][:SEEN].float() for name in ("first view", "second view"))
        found["view_difference"] = (first - second).abs().mean()
    if {"data", "samples"} <= images.keys():
        found["sample_variation"] = diagnostics.variation(images["samples"]) / diagnostics.variation(images["data"])
    return found


class BadSamples:
    """bad_samples.jsonl: each sample that could not be read, once."""

    def __init__(self, path: Path) -> None:
        self.path, lines = path, read_json_lines(path, dict[str, str], {"sample": str, "reason": str})
        self.seen = {line["sample"]: line["reason"] for line in lines}
        if lines:
            _rewrite(path, lines)

    def add(self, sample: str, reason: str) -> None:
        if sample not in self.seen:
            self.seen[sample] = reason
            _append(self.path, {"sample": sample, "reason": reason})

    def share(self) -> None:
        """Lets each process know what all have seen."""
        for sample, reason in gather_objects(list(self.seen.items())):
            self.add(sample, reason)


class NotFiniteSteps:
    """not_finite.jsonl: the samples of each step that was refused, cut back to the step that a resume starts from."""

    def __init__(self, path: Path, start: int) -> None:
        self.path, self.steps = path, set[int]()
        if path.exists():
            lines = read_json_lines(path, dict[str, int | list[str]], {"step": int, "samples": list})
            self.steps |= {line["step"] for line in _cut_back(path, lines, start)}

    def row(self, step: int) -> int:
        """How many steps up to this one were refused in a row."""
        return next(count for count in range(step + 1) if step - count not in self.steps)

    def add(self, step: int, samples: list[str]) -> None:
        _append(self.path, {"step": step, "samples": samples})


def _finite(value: Any) -> Any:
    """A number, or a list of them; None in the place of those that JSON has not."""
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return value if abs(value) < float("inf") else None


def _cut_back(path: Path, lines: list[dict[str, Any]], start: int) -> list[dict[str, Any]]:
    """Those of its lines up to a step, which are all that the file then holds."""
    kept = [line for line in lines if line["step"] <= start]
    _rewrite(path, kept)
    return kept


def _rewrite(path: Path, lines: list[dict[str, Any]]) -> None:
    """In place of the file, whole or not at all: a run may be killed meanwhile. The first process alone writes."""
    if rank() > 0:
        return
    try:
        with replacing(path) as partial:
            partial.write_text("".join(map(json_line, lines)), newline="\n")
    except DiskError as error:
        warnings.warn(f"{error} Training goes on.", stacklevel=4)


def _append(path: Path, line: dict[str, Any]) -> None:
    """A disk that refuses is told of, and is no reason to stop a run. The first process alone writes."""
    if rank() > 0:
        return
    try:
        with path.open("a", newline="\n") as file:
            file.write(json_line(line))
    except OSError as error:
        warnings.warn(f"{path}: could not be written ({error}); its line is lost. Training goes on.", stacklevel=3)
