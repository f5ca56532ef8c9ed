"""Seconds of training until a linear probe reads 88.5 %: python -m bench.time_to_accuracy

SimCLR on the 60,000 training images of Fashion-MNIST, without labels: here, and with lightly's loader, transforms,
projection head and loss in a loop as its examples have it. The first steps of each of its settings are timed, float32
and bfloat16 with channels-last, no workers and two: the fastest then trains. Encoder, optimizer, schedule, batch,
temperature and the ranges of the views are the same on both sides, seven epochs long. Between epochs the clock stops,
and a linear probe, its penalty chosen on held-out training rows, is measured on the 10,000 test images; between two of
its readings the accuracy is taken to rise evenly. On so many images its standard error is a third of a point. Training
here lets the allocator keep freed memory, which lightly leaves to its user.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.data import DataLoader

from bench.machine import facts, occasion
from bench.markdown import prose, table
from bench.peers import imported
from bench.running import followed, prepared
from bench.turns import CPU
from bench.views import Transformed, pictures
from sanslabel import encoders
from sanslabel.batch import Clock
from sanslabel.device import autocast, fast_precision
from sanslabel.evaluation import represent
from sanslabel.evaluation.linear import chosen_penalty, fitted
from sanslabel.methods.simclr import SimCLR
from sanslabel.sources import Source, open_source
from sanslabel.training.determinism import reproducible

GOAL, EPOCHS, SEEDS = 88.5, 7, (0, 1, 2)
TRIED = 60
"""steps that tell the fastest setting"""
METHOD, BATCH = SimCLR.under(SimCLR.small), SimCLR.small.batch
UNFINISHED = Path(__file__).parent / "results" / "time_to_accuracy.jsonl"
"""the lines of a measurement that was stopped, which goes on from them on the same device and code"""


class Side(NamedTuple):
    name: str
    precision: torch.dtype
    workers: int
    """of lightly's loader"""

    def __str__(self) -> str:
        precision = str(self.precision).removeprefix("torch.")
        return f"{self.name}, {precision}" + (f", {self.workers} workers" if self.name == "lightly" else "")


OURS = Side("here", getattr(torch, fast_precision(CPU)), 0)
THEIRS = [Side("lightly", dtype, workers) for dtype in (torch.bfloat16, torch.float32) for workers in (0, 2)]


def here(source: Source, side: Side, seed: int) -> Iterator[nn.Module]:
    """The encoder after each epoch."""
    recipe = SimCLR.small
    training = prepared(METHOD, recipe, source, "conv", size=28, batch=BATCH, device=CPU, seed=seed, epochs=EPOCHS)
    with reproducible(CPU):
        for record in followed(training):
            if (record.clock.step + 1) % record.clock.steps_per_epoch == 0:
                yield training.net.encoder


def lightly(source: Source, side: Side, seed: int) -> Iterator[nn.Module]:
    """The encoder after each epoch."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform

    low = METHOD.view.crop[0]  # pyright: ignore
    torch.manual_seed(seed)
    encoder = encoders.build("conv", channels=1, image_size=28, scaling=source.standardization())
    model = nn.Sequential(encoder, SimCLRProjectionHead(256, METHOD.hidden, METHOD.width)).train()
    if side.precision == torch.bfloat16:
        model = model.to(memory_format=torch.channels_last)
    recipe, criterion = SimCLR.small, NTXentLoss(temperature=METHOD.temperature)
    (optimizer,) = recipe.optimizers.values()
    built = optimizer.build(recipe.parameter_groups(model, optimizer))
    transform = SimCLRTransform(input_size=28, min_scale=low, normalize=None)
    dataset = Transformed(pictures(source.images), transform, len(source))  # pyright: ignore
    loader = DataLoader(
        dataset, BATCH, shuffle=True, drop_last=True, num_workers=side.workers, persistent_workers=side.workers > 0
    )
    step, steps = 0, EPOCHS * len(loader)
    for epoch in range(EPOCHS):
        for first, second in loader:
            with autocast(CPU, side.precision):
                loss = criterion(model(first), model(second))
            built.zero_grad(set_to_none=True)
            loss.backward()
            recipe.adjust_(built, Clock(seed, epoch, step, steps, len(loader)), recipe.scale(BATCH))
            built.step()
            step += 1
        yield model[0]


def accuracy(net: nn.Module, train: Source, test: Source) -> float:
    """In %, of a linear probe."""
    dtype = getattr(torch, fast_precision(CPU))
    both = [represent({"it": net}, part, image_size=28, device=CPU, dtype=dtype)[0]["it"] for part in (train, test)]
    classes = len(train.classes)
    penalty = chosen_penalty(both[0], train.labels, classes=classes, turns=1, seed=0).best.penalty
    probe = fitted(both[0], train.labels, classes=classes, penalty=penalty)
    return 100 * (probe.predictions(both[1]) == test.labels).double().mean().item()


def trial(side: Side) -> float:
    """Seconds of lightly's first steps, once a few are done."""
    source, start = open_source("fashion-mnist", "train"), 0.0
    for steps in (2, TRIED):
        start = time.perf_counter()
        next(lightly(source.subset(torch.arange(steps * BATCH)), side, SEEDS[0]))
    return time.perf_counter() - start


def course(side: Side, seed: int) -> list[tuple[float, float]]:
    """Seconds of training after each epoch, and the accuracy."""
    train, test = open_source("fashion-mnist", "train"), open_source("fashion-mnist", "test")
    made: Callable[..., Iterator[nn.Module]] = here if side.name == "here" else lightly
    found, spent, began = [], 0.0, time.perf_counter()
    for net in made(train, side, seed):
        spent += time.perf_counter() - began
        found.append((spent, accuracy(net, train, test)))
        began = time.perf_counter()
    return found


def arrival(found: Sequence[Sequence[float]]) -> float | None:
    """Seconds at which a line through the readings first comes to the goal."""
    before, lower = 0.0, None
    for seconds, value in found:
        if value >= GOAL:
            share = 1 if lower is None else (GOAL - lower) / (value - lower)
            return before + share * (seconds - before)
        before, lower = seconds, value
    return None


def lines(device: torch.device) -> Iterator[dict[str, Any]]:
    """A line for each finished training, on a processor."""
    if device.type != "cpu":
        return
    where, measured = facts(device)["device"], occasion()
    told = [json.loads(line) for line in UNFINISHED.read_text().splitlines()] if UNFINISHED.exists() else []
    alike = [line for line in told if line["device"] == where and _code(line["measured"]) == _code(measured)]
    known = {} if measured["commit"].endswith("+") else {line["case"]: line for line in alike}

    def line(side: Side, what: str, made: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        case = f"{side}, {what}"
        if case not in known:
            known[case] = {"case": case, "device": where, "measured": measured, "side": str(side), **made()}
            with UNFINISHED.open("a") as file:
                file.write(json.dumps(known[case]) + "\n")
        return known[case]

    sides = [OURS]
    if imported("lightly") is not None:
        tried = [line(side, "first steps", lambda side=side: {"seconds": trial(side)}) for side in THEIRS]
        yield from tried
        sides.append(min(zip(THEIRS, tried, strict=True), key=lambda both: both[1]["seconds"])[0])
    for seed, side in itertools.product(SEEDS, sides):
        yield line(side, f"seed {seed}", lambda side=side, seed=seed: {"course": course(side, seed)})
    UNFINISHED.unlink()


def _code(measured: dict[str, Any]) -> dict[str, Any]:
    return {name: measured[name] for name in ("commit", "versions")}


def section(found: list[dict[str, Any]]) -> str:
    rows = []
    for side in dict.fromkeys(line["side"] for line in found if "course" in line):
        courses = [line["course"] for line in found if line["side"] == side and "course" in line]
        arrivals = [arrival(course) for course in courses]
        there = [seconds for seconds in arrivals if seconds is not None]
        each = ", ".join("not there" if seconds is None else f"{seconds:.0f}" for seconds in arrivals)
        average = f"{mean(there):.0f}" if len(there) == len(courses) else ""
        whole, last = mean(course[-1][0] for course in courses), (f"{course[-1][1]:.2f}" for course in courses)
        rows.append([side, average, each, f"{whole:.0f}", ", ".join(last)])
    head = ["", f"seconds to {GOAL} %, mean", "each seed", f"seconds for {EPOCHS} epochs", "accuracy then, each seed"]
    text = f"## Time to accuracy\n\n{prose(__doc__)}\n\n{table(head, rows)}\n"
    if tried := [[line["side"], f"{line['seconds']:.0f}"] for line in found if "seconds" in line]:
        text += f"\n{table([f'first {TRIED} steps', 'seconds'], tried)}\n"
    return text


if __name__ == "__main__":
    for line in lines(CPU):
        print(json.dumps(line), flush=True)
