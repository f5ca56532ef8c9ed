"""Prints the table of docs/defaults.md: python -m bench.defaults

It shows the image size, encoder, batch and epochs that a run chooses for pictures of 224 pixels and more. A run
measures the cost of a step; the table has fixed costs, so that it is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bench.markdown import table as markdown
from sanslabel.training.defaults import SIZES, Cost, Question, chosen
from sanslabel.training.header import counted, duration

COUNTS = (300, 3_000, 30_000, 3_000_000)
GIB = 1 << 30
CPU, GPU = 1200 * 32**2, 3000 * 224**2
"""pixels a second that SimCLR trains on, rounded from two cores with bfloat16, and assumed for a GPU"""
LARGEST_CONV = 64
"""side in pixels up to which the encoder is conv, and above which it is a ResNet-18"""


def cost(size: int, speed: float, step: float) -> Cost:
    """Returns the cost of training at an image size. speed: pixels a second. step: the least seconds of a step."""
    sample, sample_bytes = size**2 / speed, 400 * size**2
    return Cost(step=step, sample=sample, fixed=GIB // 2, step_bytes=0, sample_bytes=sample_bytes, disk=0, once=20.0)


def row(count: int) -> list[str]:
    """Returns a row of the table: the choice for so many pictures on two cores, and on a GPU."""
    cells = [f"{count:,}"]
    for minutes, speed, step in ((10, CPU, 1e-3), (30, GPU, 5e-3)):
        known: Callable[[int], Cost] = partial(cost, speed=speed, step=step)
        question = Question(samples=count, side=SIZES[-1], minutes=minutes, memory=16 * GIB, batch=256)
        choice = chosen(question, known)
        assert choice is not None
        steps, epochs = count // choice.batch * choice.epochs, counted(choice.epochs, "epoch")
        encoder = "conv" if choice.size <= LARGEST_CONV else "resnet18"
        cells += [
            f"{choice.size} px, {encoder}, batch {choice.batch}, {epochs} = {steps:,} steps",
            duration(known(choice.size).seconds(choice.batch, steps)).removeprefix("about "),
        ]
    return cells


def table() -> str:
    """Returns the table in Markdown."""
    return markdown(["pictures", "CPU, two cores", "time", "GPU", "time"], [row(count) for count in COUNTS])


if __name__ == "__main__":
    print(table())
