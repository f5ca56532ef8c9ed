"""What benches share that compare arms over paired seeds: a line for each finished run, which a later call skips."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from bench.learning_page import Paired
from bench.running import Training
from sanslabel.batch import Batch, Clock
from sanslabel.encoders import Encoder
from sanslabel.engine import optimize
from sanslabel.methods.method import Networks

T = TypeVar("T")
Line = Mapping[str, Any]


def trained_encoder(training: Training, stream: Iterable[tuple[Clock, Batch]], arm: object) -> Encoder:
    """Returns the encoder after training on all batches. Raises ArithmeticError as `trained_networks` does."""
    return trained_networks(training, stream, arm).encoder.eval()


def trained_networks(training: Training, stream: Iterable[tuple[Clock, Batch]], arm: object) -> Networks:
    """Returns the networks after training on all batches. Raises ArithmeticError, with the arm, if a loss is not
    finite."""
    for record in optimize(training.method, training.net, training.players, stream, training.precision):
        if record.refused:
            raise ArithmeticError(f"{arm}: the loss is not finite in step {record.clock.step}")
    return training.net


def lines_of(file: Path | None) -> list[Line]:
    """Returns the lines of a file of results; none without a file."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file is not None and file.exists() else []


def missing(
    done: Sequence[Line], arms: Iterable[T], seeds: Iterable[int], about: Callable[[T, int], Line]
) -> Iterator[tuple[T, int]]:
    """Yields the runs that have no line yet, one seed after the other. about: the fields that identify a run."""
    for seed in seeds:
        for arm in arms:
            if not any(about(arm, seed).items() <= line.items() for line in done):
                yield arm, seed


def keep(line: Line, file: Path | None) -> Line:
    """Prints a line, appends it to the file if there is one, and returns it."""
    print(json.dumps(line), flush=True)
    if file is not None:
        with file.open("a") as opened:
            opened.write(json.dumps(line) + "\n")
    return line


def gain(runs: Mapping[int, Line], base: Mapping[int, Line], measure: str = "knn") -> str:
    """Returns the gain of a measure over the base in runs of equal seeds, as tables have it. The runs are given by
    seed."""
    return Paired(tuple(runs[seed][measure] - base[seed][measure] for seed in sorted(runs.keys() & base.keys()))).cell
