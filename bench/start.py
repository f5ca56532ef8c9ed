"""Seconds from a command to its answer: python -m bench.start"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from statistics import median
from time import perf_counter
from typing import Any

import torch

from bench.markdown import table

ROUNDS = 5
TORCH = "import torch"
OPTIMIZER = f"{TORCH}; torch.optim.AdamW([torch.zeros(1, requires_grad=True)])"
COMMANDS = {
    TORCH: ["-c", TORCH],
    "sanslabel --help": ["-m", "sanslabel", "--help"],
    "sanslabel train simclr --help": ["-m", "sanslabel", "train", "simclr", "--help"],
    "sanslabel methods": ["-m", "sanslabel", "methods"],
    OPTIMIZER: ["-c", OPTIMIZER],
}


def lines(device: torch.device) -> Iterator[dict[str, Any]]:
    """A line for each command, in turns, each a process of its own; no command touches the device."""
    seconds = {name: [] for name in COMMANDS}
    for round in range(ROUNDS + 1):
        for name, arguments in COMMANDS.items():
            start = perf_counter()
            subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
            if round:  # the first one reads the files from the disk
                seconds[name].append(perf_counter() - start)
    for name, taken in seconds.items():
        yield {"case": name, "seconds": median(taken)}


def section(lines: list[dict[str, Any]]) -> str:
    """The Markdown of docs/performance.md."""
    seconds = {line["case"]: line["seconds"] for line in lines}
    rows = [[f"`{name}`", f"{taken:.2f}", _beside(name, taken - seconds[TORCH])] for name, taken in seconds.items()]
    return "\n".join(
        [
            "## Start",
            "",
            f"Each command runs in a process of its own, {ROUNDS} times after one that fills the cache of the disk, in "
            "turns; medians. `--help` imports nothing heavy. The first optimizer that torch makes, here in the last "
            "row, imports its compiler, whether or not anything is compiled; training waits for it before its first "
            "step, and there is no supported way around it.",
            "",
            table(["command", "seconds", "beside `import torch`"], rows, numbers=(1, 2)),
            "",
        ]
    )


def _beside(name: str, more: float) -> str:
    return "" if name == TORCH else f"{more:+.2f}"


if __name__ == "__main__":
    for line in lines(torch.device("cpu")):
        print(json.dumps(line), flush=True)
