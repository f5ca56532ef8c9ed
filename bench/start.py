"""The seconds that commands take to answer: python -m bench.start"""

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
    """Yields a line for each command. Each runs in a process of its own, by turns; none uses the device."""
    seconds = {name: [] for name in COMMANDS}
    for round in range(ROUNDS + 1):
        for name, arguments in COMMANDS.items():
            start = perf_counter()
            subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
            if round:  # the first round reads the files from the disk
                seconds[name].append(perf_counter() - start)
    for name, values in seconds.items():
        yield {"case": name, "seconds": median(values)}


def section(lines: list[dict[str, Any]]) -> str:
    """Returns the Markdown of a section of docs/performance.md."""
    seconds = {line["case"]: line["seconds"] for line in lines}
    cells = [
        [f"`{name}`", f"{value:.2f}", _difference(name, value - seconds[TORCH])] for name, value in seconds.items()
    ]
    return "\n".join(
        [
            "## Start",
            "",
            f"Each command runs in a process of its own, by turns, {ROUNDS} times after one that fills the disk cache; "
            "medians. `--help` imports nothing heavy. The first optimizer that torch makes, in the last row, imports "
            "torch's compiler even if nothing is compiled. Training waits for it before its first step. There is no "
            "supported way around it.",
            "",
            table(["command", "seconds", "more than `import torch`"], cells, right=(1, 2)),
            "",
        ]
    )


def _difference(name: str, seconds: float) -> str:
    return "" if name == TORCH else f"{seconds:+.2f}"


if __name__ == "__main__":
    for line in lines(torch.device("cpu")):
        print(json.dumps(line), flush=True)
