"""Whole runs on two processes, started as torchrun and srun start them."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from sanslabel import checkpoint, distributed
from sanslabel.sources import open_source
from sanslabel.sources.loader import batches

pytestmark = pytest.mark.faults

ARGUMENTS = ["byol", "--data", "digits", "--encoder", "mlp", "--batch", "64", "--precision", "float32", "--no-evaluate"]
ARGUMENTS += ["--device", "cpu"]
STEPS = 1437 // 64
"""of an epoch"""


def free_port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "TORCHELASTIC", "PYTEST"))}
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2]), "HOSTNAME": ""} | more


def started(run: Path, *arguments: str, world: int = 2, slurm: bool = False) -> list[subprocess.Popen]:
    """Processes that train together, by torchrun's variables or SLURM's."""
    port = free_port()
    processes = []
    for number in range(world):
        if slurm:
            job = str(int(port) - 20_000) if int(port) >= 20_000 else str(int(port) + 20_000)
            about = {"SLURM_STEP_NUM_TASKS": str(world), "SLURM_PROCID": str(number), "SLURM_LOCALID": str(number)}
            about |= {"SLURM_JOB_ID": job, "SLURM_STEP_NODELIST": "localhost"}
        else:
            about = {"RANK": str(number), "WORLD_SIZE": str(world), "LOCAL_RANK": str(number)}
            about |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        about = about if world > 1 else {}
        command = [sys.executable, "-m", "sanslabel", "train", *arguments]
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        processes.append(subprocess.Popen(command, env=environment(**about), cwd=run.parent, **pipes))
    return processes


def ended(processes: list[subprocess.Popen], seconds: float = 100) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each; those that take longer are killed."""
    until = time.monotonic() + seconds
    found = []
    for p in processes:
        try:
            words = p.communicate(timeout=max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            p.kill()
            words = p.communicate()
        found.append((p.returncode, *words))
    return found


def state(run: Path) -> str:
    """The hash of all that the newest checkpoint of a run holds."""
    newest = checkpoint.newest(run / "checkpoints")
    total = sha256(newest.name.encode())
    for part in ("networks", "optimizers"):
        total.update((newest / f"{part}.safetensors").read_bytes())
    return total.hexdigest()


def steps_done(run: Path) -> int:
    """The last step that a run under way has told of."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


def metrics(run: Path) -> list[dict]:
    """The metrics of every tenth step. Other lines are those of the progress, whose steps depend on the time."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["step"] % 10 == 0]


def under_way(run: Path, processes: list[subprocess.Popen], step: int = 10) -> None:
    """Waits until a run has done so many steps."""
    until = time.monotonic() + 60
    while steps_done(run) < step:
        if time.monotonic() > until or any(p.poll() is not None for p in processes):
            pytest.fail(f"the run is not under way: {ended(processes, 1)}")
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run of two processes that nothing disturbed."""
    run = tmp_path_factory.mktemp("whole") / "run"
    for code, _, errors in ended(started(run, *ARGUMENTS, "--epochs", "6", "--out", str(run))):
        assert code == 0, errors
    return run


def test_two_processes_write_one_run_as_one_process_does(whole, tmp_path):
    alone = tmp_path / "alone"
    ((code, _, errors),) = ended(started(alone, *ARGUMENTS, "--epochs", "6", "--out", str(alone), world=1))
    assert code == 0, errors
    assert ", batch 64, 6 epochs = " in errors
    assert sorted(p.name for p in alone.iterdir()) == sorted(p.name for p in whole.iterdir())
    ours, theirs = metrics(whole), metrics(alone)
    assert [line["step"] for line in ours] == [line["step"] for line in theirs] == list(range(10, 140, 10))
    for name, value in theirs[0].items():
        if isinstance(value, float) and name not in {"images_per_second"}:
            assert ours[0][name] == pytest.approx(value, rel=2e-2, abs=1e-4), name
    assert json.loads((whole / "run.json").read_text())["world_size"] == 2


def test_the_same_command_gives_the_same_bits(whole, tmp_path):
    run = tmp_path / "run"
    (code, output, errors), (_, silence, _) = ended(started(run, *ARGUMENTS, "--epochs", "6", "--out", str(run)))
    assert code == 0, errors
    assert state(run) == state(whole)
    assert "64 images a step on 2 processes, 32 each" in errors
    assert "Trained byol" in output
    assert silence == ""


def test_srun_is_understood(whole, tmp_path):
    run = tmp_path / "run"
    arguments = [*ARGUMENTS, "--epochs", "6", "--out", str(run)]
    for code, _, errors in ended(started(run, *arguments, slurm=True)):
        assert code == 0, errors
    assert state(run) == state(whole)


@pytest.mark.parametrize(("number", "told"), [(signal.SIGTERM, 0), (signal.SIGINT, 1), (signal.SIGUSR1, 1)])
def test_a_signal_to_one_process_stops_all_at_one_step(whole, tmp_path, number, told):
    run = tmp_path / "run"
    processes = started(run, *ARGUMENTS, "--epochs", "6", "--out", str(run))
    under_way(run, processes)
    processes[told].send_signal(number)
    found = ended(processes, 30)
    assert [code for code, *_ in found] == [128 + number] * 2, found
    steps = {re.search(r"stopped after step (\d+)", errors)[1] for *_, errors in found}
    assert len(steps) == 1
    assert int(steps.pop()) < 6 * STEPS
    for code, _, errors in ended(started(run, "--resume", str(run), "--no-evaluate")):
        assert code == 0, errors
    assert state(run) == state(whole)


def test_a_run_goes_on_with_another_number_of_processes(whole, tmp_path):
    run = tmp_path / "run"
    processes = started(run, *ARGUMENTS, "--epochs", "6", "--out", str(run))
    under_way(run, processes)
    processes[0].terminate()
    ended(processes, 30)
    ((code, _, errors),) = ended(started(run, "--resume", str(run), "--no-evaluate", world=1))
    assert code == 0, errors
    assert "was trained on 2 processes and goes on with 1" in errors
    ours, theirs = metrics(run), metrics(whole)
    assert [line["step"] for line in ours] == [line["step"] for line in theirs] == list(range(10, 140, 10))
    for one, other in zip(ours, theirs, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=0.1)


@pytest.mark.parametrize("killed", [0, 1])  # the first one holds the store that they meet at
def test_a_process_that_dies_is_named(tmp_path, killed):
    run = tmp_path / "run"
    processes = started(run, *ARGUMENTS, "--epochs", "500", "--out", str(run))
    under_way(run, processes)
    processes[killed].kill()
    began = time.monotonic()
    code, _, errors = ended(processes, 40)[1 - killed]
    assert code == 6, errors
    assert f"lost process {killed} ({processes[killed].pid} on " in errors
    assert "; " not in errors.partition("This process gave up")[0], "and no other"
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("stopped", [0, 1])
def test_a_process_that_hangs_is_named_within_the_timeout(tmp_path, stopped):
    run = tmp_path / "run"
    processes = started(run, *ARGUMENTS, "--epochs", "500", "--out", str(run), "--timeout", "10")
    under_way(run, processes)
    processes[stopped].send_signal(signal.SIGSTOP)
    began = time.monotonic()
    ((code, _, errors),) = ended([processes[1 - stopped]], 40)
    ended([processes[stopped]], 0)
    assert code == 6, errors
    assert f"lost process {stopped} ({processes[stopped].pid} on " in errors
    assert time.monotonic() - began < 10 + 10


def test_a_run_with_weights_in_parts_leaves_what_any_run_leaves(tmp_path):
    common = [
        "--device",
        "cpu",
        "--data",
        "digits",
        "--batch",
        "128",
        "--precision",
        "float32",
        "--epochs",
        "2",
        "--no-evaluate",
    ]
    runs = {sharding: tmp_path / sharding for sharding in ("replicate", "full")}
    for sharding, run in runs.items():
        flags = ["byol", "--encoder", "conv", *common, "--sharding", sharding, "--out", str(run)]
        for code, _, errors in ended(started(run, *flags)):
            assert code == 0, errors
    for part in ("networks", "optimizers"):
        ours, theirs = (
            checkpoint.read_tensors(checkpoint.newest(run / "checkpoints") / f"{part}.safetensors")
            for run in (runs["full"], runs["replicate"])
        )
        assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    ours, theirs = (json.loads((run / "metrics.jsonl").read_text().splitlines()[0]) for run in runs.values())
    assert ours.keys() == theirs.keys()
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-2)
    assert ours["weight_growth"] == pytest.approx(theirs["weight_growth"], rel=1e-2)
    whole = state(runs["full"])
    shutil.rmtree(checkpoint.newest(runs["full"] / "checkpoints"))  # back to the start
    for code, _, errors in ended(started(runs["full"], "--resume", str(runs["full"]), "--no-evaluate")):
        assert code == 0, errors
    assert state(runs["full"]) == whole


def test_torchrun_starts_anew_and_the_run_goes_on(whole, tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--max-restarts", "3", "-m", "sanslabel", "train", *ARGUMENTS, "--epochs", "6", "--out", str(run)]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) as agent:
        under_way(run, [agent])
        held = (run / ".lock").read_text()
        os.kill(int(re.search(r"\d+", held)[0]), signal.SIGKILL)
        errors = agent.communicate(timeout=100)[1]
    assert agent.returncode == 0, errors
    assert state(run) == state(whole)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--batch", "33"], "2 processes cannot share it"),
        (["--out", "there"], "exists already"),
        (["--timeout", "inf"], "--timeout inf: must be from 1 to"),
        (["--sharding", "full", "--chunk", "8"], "--chunk: does not go with --sharding full"),
        (["--method.momentum", "2"], "must be from 0 to 1"),
    ],
)
def test_what_cannot_be_done_ends_all_processes(tmp_path, arguments, sentence):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    given = [word for word in ARGUMENTS if arguments[0] != "--batch" or word not in ("--batch", "64")]
    for code, _, errors in ended(started(tmp_path / "run", *given, *arguments), 40):
        assert code == 2, errors
        assert sentence in errors


@pytest.mark.parametrize("worlds", [(1, 2, 1), (4, 1, 2)])
def test_no_sample_is_lost_or_seen_twice_when_the_number_of_processes_changes(monkeypatch, worlds):
    source = open_source("digits", "train").subset(torch.arange(96))

    def seen(worlds: tuple[int, ...]) -> list[list[tuple[int, int]]]:
        """Rows and keys of each of six steps, two of them on each number of processes."""
        found = []
        for part, world in enumerate(worlds):
            monkeypatch.setattr(distributed, "world_size", lambda world=world: world)
            steps: list[list[tuple[int, int]]] = [[], []]
            for number in range(world):
                monkeypatch.setattr(distributed, "rank", lambda number=number: number)
                stream = batches(source, 16, seed=1, epochs=1, start=2 * part, device=torch.device("cpu"))
                for step, (_, batch) in zip(steps, stream, strict=False):
                    step += zip(batch.index.tolist(), batch.key.tolist(), strict=True)
            found += steps
        return found

    assert seen(worlds) == seen((1, 1, 1))
    assert len({row for step in seen(worlds) for row, _ in step}) == 96
