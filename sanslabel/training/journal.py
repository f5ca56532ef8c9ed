"""The files that a run writes line by line: its figures, its refused steps, and the samples that it could not read."""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sanslabel import diagnostics
from sanslabel.batch import Audio, Batch, Images
from sanslabel.checkpoint import replacing
from sanslabel.distributed import gather_objects, rank, world_size
from sanslabel.engine import Record
from sanslabel.errors import DiskError
from sanslabel.figures import FIGURES
from sanslabel.json_lines import json_line, read_figures, read_json_lines
from sanslabel.methods.method import Objective
from sanslabel.verdict import WINDOW, Verdict, verdict
from sanslabel.views import EncoderInput

WATCHED = 16
"""number of images whose variation is measured, enough to see whether they differ"""


class Metrics:
    """The figures of a run: metrics.jsonl, and its newest lines in memory."""

    def __init__(self, path: Path, step: int = 0, lines: Iterable[dict[str, Any]] = ()) -> None:
        self.path, self.last = path, (step, time.monotonic())
        self.recent = deque(lines, maxlen=WINDOW)

    @classmethod
    def resumed(cls, path: Path, step: int) -> Metrics:
        """Cuts the file back to the lines up to a step, and returns the figures of these lines."""
        return cls(path, step, _cut_back(path, read_figures(path), step))

    def age(self) -> float:
        """Returns the seconds since the last line."""
        return time.monotonic() - self.last[1]

    def verdict(self, noun: str = "image") -> Verdict:
        """Returns the verdict on the run up to its newest line. noun: the word for a sample."""
        return verdict(self.recent, noun=noun)

    def add(self, record: Record, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Writes a line with the figures of a record and the given `figures`, and returns it."""
        step, now = record.clock.step + 1, time.monotonic()
        step_before, then = self.last
        self.last = (step, now)
        speed = (step - step_before) * len(record.batch.index) * world_size() / (now - then)
        line: dict[str, Any] = {"step": step, "epoch": round(step / record.clock.steps_per_epoch, 4)}
        for objective, norm in zip(record.objectives, record.norms, strict=True):
            prefix = f"{objective.player}/" if objective.player else ""
            line |= {prefix + name: _finite(value.tolist()) for name, value in measured(objective, norm).items()}
            if objective.trivial is not None:
                line[f"{prefix}trivial"] = objective.trivial
            if objective.negatives is not None:
                line[f"{prefix}negatives"] = objective.negatives
        line |= {name: _finite(value.item()) for name, value in figures_of_data(record.batch).items()}
        line |= {name: _finite(value) for name, value in figures.items()}
        line |= {"images_per_second": round(speed, 1), "refused": record.refused}
        _append(self.path, line)
        self.recent.append(line)
        return line


def figures_of_data(batch: Batch) -> dict[str, Tensor]:
    """Returns the figures of the data in a batch, figure -> (), measured on its first samples."""
    batch = batch.map(lambda tensor: tensor[:WATCHED])
    figures = {}
    if isinstance(sounds := batch.signals.get("audio"), Audio):
        figures["loudness"] = diagnostics.loudness(sounds.waves)
    if batch.partner is not None:
        figures["partner_itself"] = (batch.partner == batch.index).float().mean()
    if isinstance(images := batch.signals.get("image"), Images):
        figures["image_variation"] = diagnostics.variation(images.pixels)
        figures["image_contrast"] = diagnostics.contrast(images.pixels)
        if (difference := _frame_difference(batch, images.pixels)) is not None:
            figures["frame_difference"] = difference
    return figures


def _frame_difference(batch: Batch, pixels: Tensor) -> Tensor | None:
    """Returns the mean difference of images (n, C, H, W) and their partners, without those that are their own. Without
    partners, it is that of frames of one clip next to each other in the batch. Returns None if there are none."""
    if batch.partner is not None:
        chosen = batch.partner != batch.index
        first, second = pixels, batch.images(1).pixels
    elif batch.group is not None:
        chosen = batch.group[1:] == batch.group[:-1]
        first, second = pixels[1:], pixels[:-1]
    else:
        return None
    height, width = (min(first.shape[i], second.shape[i]) for i in (2, 3))  # canvases may differ
    first, second = (images[chosen][..., :height, :width] for images in (first, second))
    return diagnostics.difference(first, second) if len(first) else None


def measured(objective: Objective, norm: Tensor) -> dict[str, Tensor]:
    """Returns the figures of an objective, figure -> value. `norm` is the norm of its gradient."""
    figures = {"loss": objective.loss, "gradient_norm": norm, **objective.terms}
    if objective.embedding is not None:
        figures |= diagnostics.measures(objective.embedding, objective.positive)
    if objective.pair is not None:
        first, second = (_input_of(view)[:WATCHED].float() for view in objective.pair)
        figures["view_difference"] = (first - second).abs().mean()
    if objective.generated is not None:
        generated, data = map(diagnostics.variation, objective.generated)
        figures["sample_variation"] = generated / data
    return figures


def _input_of(view: EncoderInput | Tensor) -> Tensor:
    """Returns the tensor of a view that the encoder reads."""
    return view if isinstance(view, Tensor) else view.images


class BadSamples:
    """The samples that could not be read, each listed once in bad_samples.jsonl."""

    def __init__(self, path: Path, reasons: Mapping[str, str] | None = None) -> None:
        self.path, self.reasons = path, dict(reasons or {})

    @classmethod
    def resumed(cls, path: Path) -> BadSamples:
        """Returns the samples in the file. A damaged last line is removed from it."""
        lines = read_json_lines(path, dict[str, str], {"sample": str, "reason": str})
        if lines:
            _rewrite(path, lines)
        return cls(path, {line["sample"]: line["reason"] for line in lines})

    def add(self, sample: str, reason: str) -> None:
        """Writes the sample's name and the reason, unless the file has it already."""
        if sample not in self.reasons:
            self.reasons[sample] = reason
            _append(self.path, {"sample": sample, "reason": reason})

    def share(self) -> None:
        """Gives every process the bad samples of all processes."""
        for sample, reason in gather_objects(list(self.reasons.items())):
            self.add(sample, reason)


class NotFiniteSteps:
    """The refused steps, which not_finite.jsonl lists with the names of their samples."""

    def __init__(self, path: Path, steps: Iterable[int] = ()) -> None:
        self.path, self.steps = path, set(steps)

    @classmethod
    def resumed(cls, path: Path, step: int) -> NotFiniteSteps:
        """Cuts the file back to the lines up to a step, and returns the refused steps in them."""
        if not path.exists():
            return cls(path)
        lines = read_json_lines(path, dict[str, int | list[str]], {"step": int, "samples": list})
        return cls(path, (line["step"] for line in _cut_back(path, lines, step)))

    def in_a_row(self, step: int) -> int:
        """Returns the number of refused steps in a row that end with this step."""
        return next(count for count in range(step + 1) if step - count not in self.steps)

    def add(self, step: int, samples: list[str]) -> None:
        """Writes a refused step."""
        self.steps.add(step)
        _append(self.path, {"step": step, "samples": samples})


def losses(record: Record) -> dict[str, Any]:
    """Returns the losses of a record under their keys in metrics.jsonl."""
    prefixes = (f"{objective.player}/" if objective.player else "" for objective in record.objectives)
    values = (_finite(objective.loss.item()) for objective in record.objectives)
    return {f"{prefix}loss": value for prefix, value in zip(prefixes, values, strict=True)}


def main_figures(line: Mapping[str, Any]) -> Iterator[str]:
    """Yields the figures of a line that a person follows, as text. Those of a player begin with its name."""
    for key, value in line.items():
        player, _, name = key.rpartition("/")
        if name in FIGURES and FIGURES[name].short and value is not None:
            yield f"{player} {FIGURES[name].short} {value:.3g}".lstrip()


def _finite(value: Any) -> Any:
    """Returns a number or a list of numbers. None stands for a number that is not finite, which JSON lacks."""
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value if abs(value) < float("inf") else None


def _cut_back(path: Path, lines: list[dict[str, Any]], step: int) -> list[dict[str, Any]]:
    """Rewrites the file with only the lines up to a step, and returns these lines."""
    lines = [line for line in lines if line["step"] <= step]
    _rewrite(path, lines)
    return lines


def _rewrite(path: Path, lines: list[dict[str, Any]]) -> None:
    """Replaces the file in one step, since a run may be killed at any time. Only the first process writes."""
    if rank() > 0:
        return
    try:
        with replacing(path) as partial:
            partial.write_text("".join(map(json_line, lines)), newline="\n")
    except DiskError as error:
        warnings.warn(f"{error} Training goes on.", stacklevel=4)


def _append(path: Path, line: dict[str, Any]) -> None:
    """Appends a line. If it cannot be written, the run goes on with a warning. Only the first process writes."""
    if rank() > 0:
        return
    try:
        with path.open("a", newline="\n") as file:
            file.write(json_line(line))
    except OSError as error:
        warnings.warn(f"{path}: a line could not be written ({error}) and is lost. Training goes on.", stacklevel=3)
