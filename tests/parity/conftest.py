"""Parity of training: this project's engine and the authors' step, written anew, from the same weights on the same
views. `pytest tests/parity` prints a line for each method."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from bench.bouncing import small_source
from bench.sequences import sequences
from sanslabel import encoders
from sanslabel.batch import Batch, Clock
from sanslabel.engine import optimize, players_of
from sanslabel.methods.method import Method, Networks
from sanslabel.recipe import Recipe
from sanslabel.sources import open_source
from sanslabel.sources.loader import batches

CPU = torch.device("cpu")
SAMPLES, BATCH, EPOCHS, WARMUP = 64, 16, 5, 1
"""of a run of 20 steps, 4 of them warm-up"""
SMALL = {"name": "dcgan", "filters": 8}
"""two convolutions at 16 pixels, of which the second has BatchNorm: 2,000 weights. At 8 there is only the first"""
SMALL_OF_SOUND = {"name": "mlp", "hidden": [32]}
BOUND = 1e-9
FLOOR = 1e-2
"""least root mean square that differences are relative to. A bias before a BatchNorm has no gradient but what rounding
leaves, 1e-15, of which Adam makes steps of 1e-13."""

Step = Callable[[Batch, Clock], None]
"""the authors' training step on one batch, which moves their networks and all that they remember"""


@pytest.fixture
def side_by_side(record_property) -> Callable[..., Networks]:
    """Trains a method for 20 steps beside its authors' step, and returns the networks of both."""

    def compare(
        method: Method,
        recipe: Recipe,
        authors: Callable[[Networks, Method], Step],
        encoder: dict = SMALL,
        image_size: int | None = None,
        deviation: str = "",
        warmup: float = WARMUP,
        seed: int = 0,
        clips: bool = False,
    ) -> tuple[Networks, Networks]:
        """recipe: the authors', of which the encoder, the batch and the number of epochs become small. authors: makes
        their step around a copy of the networks, with an optimizer of its own. deviation: what this project does
        otherwise, and the step does as here. image_size: None is 16 for the small encoder, and 8 for another. clips:
        whether the samples are frames of clips of 32, 29 a second."""
        image_size = image_size or (16 if encoder is SMALL else 8)
        few = open_source("digits", "train").subset(torch.arange(SAMPLES))
        source = small_source(SAMPLES, image_size) if "audio" in method.signals else few
        source = sequences(SAMPLES, least=3, longest=7) if "source" in method.signals else source
        if clips:
            row = torch.arange(SAMPLES)
            source = replace(source, group=row // 32, time=(row % 32).double() / 29)
        torch.manual_seed(seed)
        method, facts = method.sized(image_size), source.facts(image_size)
        options = {s: SMALL_OF_SOUND if s == "audio" else encoder for s in method.encoded_signals}
        built = {signal: encoders.build(**o, **facts.inputs[signal].arguments) for signal, o in options.items()}
        ours = method.networks(built if len(built) > 1 else next(iter(built.values())), facts).double().train()
        theirs = deepcopy(ours)
        step = authors(theirs, method)
        short = replace(recipe, batch=BATCH, epochs=EPOCHS, warmup=warmup)
        stream = [
            (clock, batch._replace(dtype=torch.float64))
            for clock, batch in batches(
                source, BATCH, seed=seed, epochs=EPOCHS, device=CPU, order=source.order_of(method.stretch)
            )
        ]
        records = optimize(method, ours, players_of(ours, short, BATCH), stream, torch.float64)
        for record, (clock, batch) in zip(records, stream, strict=True):
            assert not record.refused
            torch.manual_seed(clock.key)  # for dropout
            step(batch, clock)
        moved = {name: largest_difference(dict(n), dict(t)) for name, n, t in parts(ours, theirs)}
        assert max(moved.values()) < BOUND, moved
        record_property("parity", (type(method).__name__, len(stream), moved["weights"], moved["memories"], deviation))
        return ours, theirs

    return compare


def parts(ours: Networks, theirs: Networks):
    """Yields the tensors of both networks by what they are: weights, of students and teachers, and memories."""
    yield "weights", ours.named_parameters(), theirs.named_parameters()
    yield "memories", ours.named_buffers(), theirs.named_buffers()


def largest_difference(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """The largest relative difference of two tensors of one name, by their root mean squares."""
    assert ours.keys() == theirs.keys()
    relative = [0.0]
    for name, here in ours.items():
        there = theirs[name].double()
        apart = (here.double() - there).square().mean().sqrt()
        relative.append((apart / there.square().mean().sqrt().clamp(min=FLOOR)).item())
    return max(relative)


def pytest_terminal_summary(terminalreporter) -> None:
    lines = [
        value for r in terminalreporter.stats.get("passed", []) for key, value in r.user_properties if key == "parity"
    ]
    if lines:
        terminalreporter.write_line("\n| method | steps | weights | memories | as here |\n|---|---|---|---|---|")
        for name, steps, weights, memories, deviation in sorted(lines):
            terminalreporter.write_line(f"| {name} | {steps} | {weights:.0e} | {memories:.0e} | {deviation} |")
