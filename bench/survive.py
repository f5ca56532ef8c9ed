"""Tests that killed runs end as if nobody had killed them: python -m bench.survive [--kills 50] [--cost]

Each trial starts a run, kills it with SIGKILL, starts it again, kills it again, and lets the third process finish.
Every other kill is aimed at a save, the others at any moment. The networks, optimizers and encoder of the finished run
must equal those of a run that nobody killed, byte for byte. Saves come every few steps, and each flush to the disk is
slowed down by some milliseconds, so that kills hit saves. Each kill is a line of the results file, and an existing line
is not measured again. --cost measures the cost of safety: the seconds of a save, and of the first batch after a resume.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from argparse import ArgumentParser
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import torch
import torch._dynamo  # else the first optimizer imports it in each process, and kills would hit these two seconds

import sanslabel
from sanslabel import checkpoint, methods
from sanslabel.sources import batches, open_source
from sanslabel.training import session

RESULTS = Path(__file__).parent / "results" / "survive.jsonl"
SLOWER = 0.005
"""seconds by which each flush to the disk is slowed down"""
BETWEEN = 10
"""steps from one save to the next; they take longer than a save"""
OPTIONS = dict(data="digits", encoder={"name": "mlp", "hidden": 64}, batch=256, epochs=12, device="cpu")
"""options of the run, which has 60 steps"""


def method() -> methods.method.Method:
    """Returns a small method with a teacher and a queue."""
    chosen = methods.method_class("moco")
    return replace(chosen.under(chosen.small), hidden=64, width=32, queue=512)


def main(kills: int = 50, results: Path = RESULTS, cost: bool = False) -> None:
    """Kills runs and prints how many of them end with the same bits.

    kills: number of kills. results: file of their lines. cost: whether to measure the cost of safety instead.
    """
    if cost:
        print_cost()
        return
    torch.set_num_threads(1)  # a forked process cannot use the threads of its parent
    done = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    with tempfile.TemporaryDirectory() as scratch:
        reference = Path(scratch) / "reference"
        began = time.monotonic()
        started(reference).join()
        seconds = time.monotonic() - began
        expected = digest(reference)
        while len(done) < kills:
            new = trial(Path(scratch) / "run", len(done), seconds, expected)[: kills - len(done)]
            done += new
            results.parent.mkdir(parents=True, exist_ok=True)
            with results.open("a") as file:
                file.writelines(json.dumps(line) + "\n" for line in new)
    done = done[:kills]
    inside = [line for line in done if line["in_save"]]
    for name, lines in {"inside a save": inside, "elsewhere": [line for line in done if not line["in_save"]]}.items():
        print(f"{name:<14} {sum(line['same'] for line in lines):>3} of {len(lines)} ended with the same bits")
    print(f"{sum(line['same'] for line in done)} of {kills}, {len(inside)} of them inside a save")
    sys.exit(0 if all(line["same"] for line in done) else 1)


def trial(run: Path, number: int, seconds: float, expected: str) -> list[dict]:
    """Returns the lines of a run that is killed twice and then finishes."""
    shutil.rmtree(run, ignore_errors=True)
    draws = random.Random(number)
    kills = []
    for aimed in (True, False):
        reader, writer = os.pipe()
        process = started(run, writer)
        os.close(writer)
        if aimed:
            saves = draws.randint(1, 5)
            while saves and (mark := os.read(reader, 1)):
                saves -= mark == b"("
            time.sleep(draws.uniform(0, 8 * SLOWER))
        else:
            time.sleep(draws.uniform(0, seconds))
        process.kill()
        process.join()
        with os.fdopen(reader, "rb") as rest:
            marks = (b"(" if aimed else b"") + rest.read()
        if process.exitcode == -9:  # otherwise it ended before the kill
            left = sorted(p.name for p in run.glob("checkpoints/*") if p.name.startswith("step-"))
            kills.append({"kill": number + len(kills), "in_save": marks.endswith(b"("), "left": left})
    last = started(run)
    last.join()
    same = last.exitcode == 0 and digest(run) == expected and not list(run.rglob(".*.part"))
    return [line | {"same": same} for line in kills]


def started(run: Path, marks: int | None = None) -> multiprocessing.process.BaseProcess:
    """Returns a process that starts or resumes the run, as a script does that is started again and again."""
    process = multiprocessing.get_context("fork").Process(target=_train, args=(run, marks))
    process.start()
    return process


def _train(run: Path, marks: int | None) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    session.Saver.due = lambda self, clock: clock.step % BETWEEN == 0
    flush, save = checkpoint._flush, checkpoint.save

    def slow(path: Path) -> None:
        time.sleep(SLOWER)
        flush(path)

    def marked(*args, **kwargs) -> Path:
        if marks is not None:
            os.write(marks, b"(")
        path = save(*args, **kwargs)
        if marks is not None:
            os.write(marks, b")")
        return path

    checkpoint._flush, checkpoint.save = slow, marked
    if (run / "run.json").exists():
        sanslabel.resume(run)
    else:
        sanslabel.train(method=method(), out=run, precision="float32", **OPTIONS)


def digest(run: Path) -> str:
    """Returns a hash of the state that a run ends with."""
    newest = checkpoint.newest(run / "checkpoints")
    if newest is None or not (run / "encoder.safetensors").exists():
        return "nothing"
    files = [newest / "networks.safetensors", newest / "optimizers.safetensors", run / "encoder.safetensors"]
    return sha256(b"".join([newest.name.encode(), *(file.read_bytes() for file in files)])).hexdigest()


def print_cost() -> None:
    """Prints the seconds of a save, and of the first batch at two positions."""
    with tempfile.TemporaryDirectory() as scratch:
        seconds, save = [], checkpoint.save

        def timed(*args, **kwargs) -> Path:
            began = time.perf_counter()
            path = save(*args, **kwargs)
            seconds.append(time.perf_counter() - began)
            return path

        checkpoint.save, session.SAVE_AFTER = timed, 0.0
        sanslabel.train("fashion", epochs=1, out=Path(scratch) / "run")
    middle, wait = sorted(seconds)[len(seconds) // 2], 60.0
    print(f"a save of simclr with conv: {middle:.3f} s, {100 * middle / wait:.2f} % of the {wait:.0f} s between two")
    source = open_source("fashion")
    for start in (10, 1_000_000):
        best = min(_first(source, start) for _ in range(5))
        print(f"first batch after step {start:>9,}: {1000 * best:.2f} ms")


def _first(source, start: int) -> float:
    """Returns the seconds until the first batch of a stream that starts at a step."""
    began = time.perf_counter()
    next(batches(source, 256, seed=0, epochs=10**6, start=start, device=torch.device("cpu")))
    return time.perf_counter() - began


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--cost", action="store_true")
    main(**vars(parser.parse_args()))
