"""Real processes that a test can hold at a place, send signals to and kill."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sanslabel import checkpoint

STARTER = Path(__file__).with_name("starter.py")


@dataclass
class Started:
    """A command that runs."""

    pid: int
    mark: Path
    log: Path
    starter: subprocess.Popen
    code: int | None = None

    def reached(self) -> "Started":
        """When it has come to the place that it is held at."""
        deadline = time.monotonic() + 60
        while not self.mark.exists():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.005)
        time.sleep(0.02)  # from the mark into the wait
        return self

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def ended(self) -> int:
        """Its exit code, minus the signal's number where that ended it."""
        if self.code is None:
            self.code = int(asked(self.starter, {"wait": self.pid}))
        return self.code


def asked(starter: subprocess.Popen, question: dict) -> str:
    assert starter.stdin
    assert starter.stdout
    starter.stdin.write(json.dumps(question) + "\n")
    starter.stdin.flush()
    return starter.stdout.readline()


@pytest.fixture(scope="session")
def starter():
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, str(STARTER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield process
        process.kill()


@pytest.fixture
def start(starter, tmp_path):
    """start("train", …, place="step", seconds=0.5): a command that is held there."""
    running = []

    def start(*arguments, place: str = "", seconds: float = 60.0) -> Started:
        number = len(running)
        mark, log = tmp_path / f"mark-{number}", tmp_path / f"log-{number}"
        question = {"arguments": [str(a) for a in arguments], "place": place, "seconds": seconds}
        pid = int(asked(starter, question | {"mark": str(mark), "log": str(log)}))
        running.append(Started(pid, mark, log, starter))
        return running[-1]

    yield start
    for process in running:
        if process.code is None:
            process.kill()
            process.ended()


@pytest.fixture(scope="session")
def quick() -> tuple[str, ...]:
    """Flags of a run of 15 steps."""
    data = ("--data", "digits", "--encoder", "mlp", "--epochs", "3", "--batch", "256")
    return ("simclr", *data, "--precision", "float32", "--device", "cpu", "--no-evaluate")


@pytest.fixture(scope="session")
def state_of():
    """The bytes of all that a run ended with."""

    def state(run: Path) -> dict[str, bytes]:
        newest = checkpoint.newest(run / "checkpoints")
        files = [newest / "networks.safetensors", newest / "optimizers.safetensors", run / "encoder.safetensors"]
        return {f.name: f.read_bytes() for f in files} | {"step": newest.name.encode()}

    return state


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """A folder of 48 small images."""
    folder, generator = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for row in range(48):
        pixels = generator.integers(0, 256, (16, 16 + row % 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{row:02}.png")
    return folder
