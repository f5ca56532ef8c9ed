"""Seconds of training until a linear probe reads 88.5 %: python -m bench.time_to_accuracy

SimCLR on the 60,000 training images of Fashion-MNIST, without labels: here, and with lightly's loader, transforms,
projection head and loss in a loop as its examples have it. An epoch of each of its settings is timed first, float32 and
bfloat16 with channels-last, no workers and two: the fastest then trains. Encoder, optimizer, schedule, batch,
temperature and the ranges of the views are the same on both sides, seven epochs long. After the fourth epoch and each
that follows the clock stops, and a linear probe, its penalty chosen on held-out training rows, is measured on the
10,000 test images.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.data import DataLoader

from bench.machine import facts
from bench.markdown import prose, table
from bench.peers import imported
from bench.running import followed, prepared
from bench.turns import CPU
from bench.views import Transformed, pictures
from sanslabel import encoders
from sanslabel.batch import Clock
from sanslabel.evaluation import represent
from sanslabel.evaluation.linear import chosen_penalty, fitted
from sanslabel.hardware import computing, fast_precision
from sanslabel.methods.simclr import SimCLR
from sanslabel.sources import Source, open_source
from sanslabel.training.conditions import conditions

GOAL, EPOCHS, MEASURED_FROM, SEEDS = 88.5, 7, 4, (0, 1, 2)
METHOD = SimCLR.under(SimCLR.small)
UNFINISHED = Path(__file__).parent / "results" / "time_to_accuracy.jsonl"
"""the lines of a measurement that was stopped, which goes on from them on the same device"""


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
    training = prepared(
        METHOD, recipe, source, "conv", size=28, batch=recipe.batch, device=CPU, seed=seed, epochs=EPOCHS
    )
    with conditions(CPU):
        for record in followed(training):
            if (record.clock.step + 1) % record.clock.steps_per_epoch == 0:
                yield training.net.encoder


def lightly(source: Source, side: Side, seed: int) -> Iterator[nn.Module]:
    """The encoder after each epoch."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform

    batch, low = SimCLR.small.batch, METHOD.view.crop[0]  # pyright: ignore
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
        dataset, batch, shuffle=True, drop_last=True, num_workers=side.workers, persistent_workers=side.workers > 0
    )
    step, steps = 0, EPOCHS * len(loader)
    for epoch in range(EPOCHS):
        for first, second in loader:
            with computing(CPU, side.precision):
                loss = criterion(model(first), model(second))
            built.zero_grad(set_to_none=True)
            loss.backward()
            recipe.adjust_(built, Clock(seed, epoch, step, steps, len(loader)), recipe.scale(batch))
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


def course(side: Side, seed: int, epochs: int = EPOCHS) -> list[tuple[float, float | None]]:
    """Seconds of training after each of the first epochs, and the accuracy from the fourth on."""
    train, test = open_source("fashion-mnist", "train"), open_source("fashion-mnist", "test")
    made: Callable[..., Iterator[nn.Module]] = here if side.name == "here" else lightly
    found, spent, began = [], 0.0, time.perf_counter()
    for epoch, net in enumerate(islice(made(train, side, seed), epochs), 1):
        spent += time.perf_counter() - began
        found.append((spent, accuracy(net, train, test) if epoch >= MEASURED_FROM else None))
        began = time.perf_counter()
    return found


def arrival(found: list[list[float | None]]) -> float | None:
    """Seconds at which the accuracy was first seen to be there."""
    return next((seconds for seconds, value in found if value is not None and value >= GOAL), None)


def lines(device: torch.device) -> Iterator[dict[str, Any]]:
    """A line for each finished training, on a processor."""
    if device.type != "cpu":
        return
    where = facts(device)["device"]
    told = [json.loads(line) for line in UNFINISHED.read_text().splitlines()] if UNFINISHED.exists() else []
    known = {line["case"]: line for line in told if line["device"] == where}

    def line(side: Side, seed: int, epochs: int) -> dict[str, Any]:
        case = f"{side}, seed {seed}, {epochs} epochs"
        if case not in known:
            about = {"case": case, "device": where, "side": str(side), "seed": seed, "epochs": epochs}
            known[case] = {**about, "course": course(side, seed, epochs)}
            with UNFINISHED.open("a") as file:
                file.write(json.dumps(known[case]) + "\n")
        return known[case]

    sides = [OURS]
    if imported("lightly") is not None:
        trials = {side: line(side, 0, 1) for side in THEIRS}
        yield from trials.values()
        sides.append(min(THEIRS, key=lambda side: trials[side]["course"][0][0]))
    for seed in SEEDS:
        yield from (line(side, seed, EPOCHS) for side in sides)
    UNFINISHED.unlink()


def section(found: list[dict[str, Any]]) -> str:
    trials, rows = [line for line in found if line["epochs"] == 1], []
    for side in dict.fromkeys(line["side"] for line in found if line["epochs"] == EPOCHS):
        own = [line for line in found if line["side"] == side and line["epochs"] == EPOCHS]
        arrivals = [arrival(line["course"]) for line in own]
        there = [seconds for seconds in arrivals if seconds is not None]
        each = ", ".join("not there" if seconds is None else f"{seconds:.0f}" for seconds in arrivals)
        last = ", ".join(f"{line['course'][-1][1]:.2f}" for line in own)
        average = f"{mean(there):.0f}" if len(there) == len(own) else ""
        rows.append([side, average, each, f"{mean(line['course'][-1][0] for line in own):.0f}", last])
    head = ["", f"seconds to {GOAL} %, mean", "each seed", f"seconds for {EPOCHS} epochs", "accuracy then, each seed"]
    first = table(["first epoch", "seconds"], [[line["side"], f"{line['course'][0][0]:.0f}"] for line in trials])
    return f"## Time to accuracy\n\n{prose(__doc__)}\n\n{table(head, rows)}\n\n{first}\n"


if __name__ == "__main__":
    for line in lines(CPU):
        print(json.dumps(line), flush=True)
