"""What benches of pictures with sounds share: runs that are trained once, the starts of trainings, and their scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from time import process_time
from typing import Any

import torch

import sanslabel
from bench.arms import Line
from bench.learning_page import spread
from bench.learns import ONE_DRAW, accuracies
from bench.markdown import with_table
from sanslabel.evaluation import settle_
from sanslabel.run_folder import RunFolder
from sanslabel.settings import Settings
from sanslabel.sources import data_of, open_source
from sanslabel.training.planning import resolve_method, resolve_plan
from sanslabel.training.session import open_session

CPU = torch.device("cpu")
PAGE = Path(__file__).parents[1] / "docs" / "pairs.md"
SIGNALS = ("image", "audio")
DIRECTIONS = {"picture finds sound": "image finds audio", "sound finds picture": "audio finds image"}
"""what tables call the rows of the protocol `pairs`"""


def trained(method: str, file: Path, folder: Path, settings: Mapping[str, Any]) -> tuple[RunFolder, int | None]:
    """Returns the run of a method and the seconds of the CPU that it took, None if an earlier call has trained it."""
    if (folder / "config.json").exists():
        return RunFolder.open(folder), None
    began = process_time()
    run = sanslabel.train(file, method=method, out=folder, device="cpu", **settings)
    return run, round(process_time() - began)


def untrained(method: str, file: Path, folder: Path, settings: Mapping[str, Any]) -> RunFolder:
    """Returns a run that ends before its first step. BatchNorm of its encoders is settled on the data."""
    if (folder / "config.json").exists():
        return RunFolder.open(folder)
    name, instance, recipe = resolve_method(method, "small", None)
    data = replace(data_of(file), signals=instance.signals)
    source = open_source(data, "train")
    chosen = Settings(device="cpu", **{key: value for key, value in settings.items() if key != "encoder"})
    plan, instance = resolve_plan(data, source, CPU, name, instance, recipe, settings["encoder"], settings=chosen)
    session = open_session(folder, plan, instance, recipe, source)
    for encoder in session.method.encoders(session.net).values():
        reads: Any = encoder.reads
        settle_(encoder, source, reads=reads, device=CPU)
    run = RunFolder(folder, session.plan, {}, None)
    run.write()
    session.save(0)
    session.export()
    return run


def pair_scores(run: RunFolder, data: Path | None = None) -> dict[str, dict[str, float]]:
    """Returns the figures of the protocol `pairs`: row -> metric -> value. The AUROC has the ends of its interval."""
    rows: dict[str, dict[str, float]] = {}
    for score in sanslabel.evaluate(run.path, data=data, protocols="pairs", baselines=False, cache=False):
        row = rows.setdefault(score.representation, {})
        row[score.metric] = round(score.value, 2)
        for gain in score.gains:
            row |= {f"{score.metric} low": round(50 + gain.low, 2), f"{score.metric} high": round(50 + gain.high, 2)}
    return rows


def probe_scores(run: RunFolder, networks: Sequence[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Returns the accuracies of kNN and of a linear probe: network -> representation -> protocol -> %."""
    return {
        network: accuracies(sanslabel.evaluate(run.path, protocols=ONE_DRAW, network=network, cache=False))
        for network in networks
    }


def mean_of(lines: Iterable[Line], *keys: str) -> str:
    """Returns mean ± deviation of a figure over lines, found by its keys; empty if they do not have it."""
    values = []
    for line in lines:
        value: Any = line
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            values.append(value)
    return spread(values)


def pair_rows(lines: Sequence[Line], arms: Iterable[str], metrics: Sequence[str]) -> list[list[str]]:
    """Returns the rows of a table of pairs: chance, and each arm in both directions, with means over its seeds. Lines
    without scores of pairs have none."""
    with_pairs = [line for line in lines if "pairs" in line]
    made = [["chance", "", "", *(mean_of(with_pairs[:1], "pairs", "chance", metric) for metric in metrics), "50.0"]]
    for arm in arms:
        runs = [line for line in with_pairs if line["arm"] == arm]
        for number, (title, row) in enumerate(DIRECTIONS.items() if runs else ()):
            auroc = mean_of(runs, "pairs", "true against shuffled pairs", "AUROC")
            auroc += f" ({interval_of(runs)})"
            values = [mean_of(runs, "pairs", row, metric) for metric in metrics]
            made.append([arm, title, str(len(runs)), *values, "" if number else auroc])
    return made


def interval_of(lines: Sequence[Line]) -> str:
    """Returns the means of both ends of the AUROC's interval; empty if the lines have none."""
    ends = [
        [line["pairs"]["true against shuffled pairs"].get(f"AUROC {end}") for line in lines] for end in ("low", "high")
    ]
    return " to ".join(f"{fmean(values):.1f}" for values in ends)


def render(name: str, content: str) -> None:
    """Prints the tables of a bench, and writes them into their place in docs/pairs.md."""
    print(content)
    PAGE.write_text(with_table(PAGE.read_text(), name, content))
