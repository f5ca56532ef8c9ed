"""The seconds of training until a linear probe reaches 88.5 %: python -m bench.time_to_accuracy

SimCLR trains on the 60,000 training images of Fashion-MNIST, without labels. It runs here, and with lightly's loader,
transforms, projection head and loss in a loop as in lightly's examples. The first steps of lightly are timed in
float32, and in bfloat16 with channels-last, with no workers and with two; the fastest setting then trains. Encoder,
optimizer, schedule, batch, temperature and the ranges of the views are the same for both. Each trains for seven epochs.
Between epochs the clock stops, and a linear probe is measured on the 10,000 test images. Its penalty is chosen on
held-out training images. Between two measurements the accuracy is assumed to rise evenly. Its standard error is a third
of a point. Training here lets the allocator keep freed memory, which lightly leaves to its user.
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

from bench.interleaving import CPU
from bench.machine import facts, occasion
from bench.markdown import prose, table
from bench.peers import imported
from bench.running import followed, prepared
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
TRIAL_STEPS = 60
"""steps that are timed to choose the fastest setting"""
METHOD, BATCH = SimCLR.under(SimCLR.small), SimCLR.small.batch
UNFINISHED = Path(__file__).parent / "results" / "time_to_accuracy.jsonl"
"""lines of a measurement that was stopped; it continues from them on the same device and code"""


class Contender(NamedTuple):
    """A library and its settings."""

    name: str
    precision: torch.dtype
    workers: int
    """worker processes of lightly's loader"""

    def __str__(self) -> str:
        precision = str(self.precision).removeprefix("torch.")
        return f"{self.name}, {precision}" + (f", {self.workers} workers" if self.name == "lightly" else "")


OURS = Contender("here", getattr(torch, fast_precision(CPU)), 0)
THEIRS = [Contender("lightly", dtype, workers) for dtype in (torch.bfloat16, torch.float32) for workers in (0, 2)]


def here(source: Source, contender: Contender, seed: int) -> Iterator[nn.Module]:
    """Yields the encoder after each epoch."""
    recipe = SimCLR.small
    training = prepared(METHOD, recipe, source, "conv", size=28, batch=BATCH, device=CPU, seed=seed, epochs=EPOCHS)
    with reproducible(CPU):
        for record in followed(training):
            if (record.clock.step + 1) % record.clock.steps_per_epoch == 0:
                yield training.net.encoder


def lightly(source: Source, contender: Contender, seed: int) -> Iterator[nn.Module]:
    """Yields the encoder after each epoch."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform

    low = METHOD.view.crop[0]  # pyright: ignore
    torch.manual_seed(seed)
    encoder = encoders.build("conv", channels=1, image_size=28, scaling=source.standardization())
    model = nn.Sequential(encoder, SimCLRProjectionHead(256, METHOD.hidden, METHOD.width)).train()
    if contender.precision == torch.bfloat16:
        model = model.to(memory_format=torch.channels_last)
    recipe, criterion = SimCLR.small, NTXentLoss(temperature=METHOD.temperature)
    (optimizer,) = recipe.optimizers.values()
    built = optimizer.build(recipe.parameter_groups(model, optimizer))
    transform = SimCLRTransform(input_size=28, min_scale=low, normalize=None)
    dataset = Transformed(pictures(source.images), transform, len(source))  # pyright: ignore
    loader = DataLoader(
        dataset,
        BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=contender.workers,
        persistent_workers=contender.workers > 0,
    )
    step, steps = 0, EPOCHS * len(loader)
    for epoch in range(EPOCHS):
        for first, second in loader:
            with autocast(CPU, contender.precision):
                loss = criterion(model(first), model(second))
            built.zero_grad(set_to_none=True)
            loss.backward()
            recipe.adjust_(built, Clock(seed, epoch, step, steps, len(loader)), recipe.scale(BATCH))
            built.step()
            step += 1
        yield model[0]


def accuracy(net: nn.Module, train: Source, test: Source) -> float:
    """Returns the accuracy of a linear probe on test images, in %."""
    dtype = getattr(torch, fast_precision(CPU))
    features = [
        represent({"it": net}, source, reads=source.image, device=CPU, dtype=dtype)[0]["it"] for source in (train, test)
    ]
    classes = len(train.classes)
    penalty = chosen_penalty(features[0], train.labels, classes=classes, rounds=1, seed=0).best.penalty
    probe = fitted(features[0], train.labels, classes=classes, penalty=penalty)
    return 100 * (probe.predictions(features[1]) == test.labels).double().mean().item()


def trial(contender: Contender) -> float:
    """Returns the seconds of lightly's first steps, after a few that do not count."""
    source, start = open_source("fashion-mnist", "train"), 0.0
    for steps in (2, TRIAL_STEPS):
        start = time.perf_counter()
        next(lightly(source.subset(torch.arange(steps * BATCH)), contender, SEEDS[0]))
    return time.perf_counter() - start


def course(contender: Contender, seed: int) -> list[tuple[float, float]]:
    """Returns the seconds of training and the accuracy after each epoch."""
    train, test = open_source("fashion-mnist", "train"), open_source("fashion-mnist", "test")
    made: Callable[..., Iterator[nn.Module]] = here if contender.name == "here" else lightly
    points, spent, began = [], 0.0, time.perf_counter()
    for net in made(train, contender, seed):
        spent += time.perf_counter() - began
        points.append((spent, accuracy(net, train, test)))
        began = time.perf_counter()
    return points


def arrival(points: Sequence[Sequence[float]]) -> float | None:
    """Returns the seconds at which a line through the measured points first reaches the goal, or None."""
    before, lower = 0.0, None
    for seconds, value in points:
        if value >= GOAL:
            share = 1 if lower is None else (GOAL - lower) / (value - lower)
            return before + share * (seconds - before)
        before, lower = seconds, value
    return None


def lines(device: torch.device) -> Iterator[dict[str, Any]]:
    """Yields a line for each finished training. It runs on CPUs only."""
    if device.type != "cpu":
        return
    where, measured = facts(device)["device"], occasion()
    stored = [json.loads(line) for line in UNFINISHED.read_text().splitlines()] if UNFINISHED.exists() else []
    same = [line for line in stored if line["device"] == where and _code(line["measured"]) == _code(measured)]
    known = {} if measured["commit"].endswith("+") else {line["case"]: line for line in same}

    def line(contender: Contender, measurement: str, made: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        case = f"{contender}, {measurement}"
        if case not in known:
            known[case] = {"case": case, "device": where, "measured": measured, "side": str(contender), **made()}
            with UNFINISHED.open("a") as file:
                file.write(json.dumps(known[case]) + "\n")
        return known[case]

    contenders = [OURS]
    if imported("lightly") is not None:
        trials = [line(c, "first steps", lambda c=c: {"seconds": trial(c)}) for c in THEIRS]
        yield from trials
        contenders.append(min(zip(THEIRS, trials, strict=True), key=lambda pair: pair[1]["seconds"])[0])
    for seed, contender in itertools.product(SEEDS, contenders):
        yield line(contender, f"seed {seed}", lambda c=contender, seed=seed: {"course": course(c, seed)})
    UNFINISHED.unlink()


def _code(measured: dict[str, Any]) -> dict[str, Any]:
    return {name: measured[name] for name in ("commit", "versions")}


def section(lines: list[dict[str, Any]]) -> str:
    """Returns the Markdown of a section of docs/performance.md."""
    cells = []
    for name in dict.fromkeys(line["side"] for line in lines if "course" in line):
        courses = [line["course"] for line in lines if line["side"] == name and "course" in line]
        arrivals = [arrival(course) for course in courses]
        reached = [seconds for seconds in arrivals if seconds is not None]
        by_seed = ", ".join("not reached" if seconds is None else f"{seconds:.0f}" for seconds in arrivals)
        average = f"{mean(reached):.0f}" if len(reached) == len(courses) else ""
        total, last = mean(course[-1][0] for course in courses), (f"{course[-1][1]:.2f}" for course in courses)
        cells.append([name, average, by_seed, f"{total:.0f}", ", ".join(last)])
    head = ["", f"seconds to {GOAL} %, mean", "each seed", f"seconds for {EPOCHS} epochs", "accuracy then, each seed"]
    text = f"## Time to accuracy\n\n{prose(__doc__)}\n\n{table(head, cells)}\n"
    if trials := [[line["side"], f"{line['seconds']:.0f}"] for line in lines if "seconds" in line]:
        text += f"\n{table([f'first {TRIAL_STEPS} steps', 'seconds'], trials)}\n"
    return text


if __name__ == "__main__":
    for line in lines(CPU):
        print(json.dumps(line), flush=True)
