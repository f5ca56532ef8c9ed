"""Processes that decode images and die, or hang."""

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from multiprocessing import active_children
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import torch
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

import sanslabel
from sanslabel.errors import BadInput
from sanslabel.sources import batches, open_source, workers
from sanslabel.training import session

pytestmark = pytest.mark.faults

CPU = torch.device("cpu")


@pytest.fixture
def soon(monkeypatch):
    """A dead worker is looked for every five seconds; here, more often."""
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.2,))


def kill_workers() -> list[int]:
    pids = [process.pid for process in active_children()]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return pids


def test_batches_go_on_as_if_no_worker_had_been_killed(pictures, soon):
    source = open_source(pictures)
    expected = list(batches(source, 8, seed=1, epochs=4, device=CPU))
    got, killed = [], []
    with pytest.warns(UserWarning, match="others go on in its place") as warned:  # noqa: PT031
        for pair in batches(source, 8, seed=1, epochs=4, device=CPU, workers=1):
            got.append(pair)
            if len(got) in {2, 9}:
                killed += kill_workers()
    assert len(killed) == len(warned) == 2
    for pid, warning in zip(killed, warned, strict=True):
        assert f"pictures0: worker process {pid} died while" in str(warning.message)
        assert ".png and 5 more" in str(warning.message)
    assert len(got) == len(expected) == 24
    for (clock, batch), (clock_then, batch_then) in zip(got, expected, strict=True):
        assert clock == clock_then
        assert torch.equal(batch.index, batch_then.index)
        assert torch.equal(batch.images().pixels, batch_then.images().pixels)


def test_a_run_ends_with_the_same_bits(tmp_path, pictures, soon, monkeypatch, state_of):
    options = dict(cache="none", encoder="mlp", epochs=4, batch=16, precision="float32", device="cpu")
    sanslabel.train(pictures, out=tmp_path / "whole", workers=0, **options)
    optimize = session.optimize

    def deadly(*args):
        for record in optimize(*args):
            if record.clock.step == 3:
                kill_workers()
            yield record

    monkeypatch.setattr(session, "optimize", deadly)
    with pytest.warns(UserWarning, match="died while"):
        run = sanslabel.train(pictures, out=tmp_path / "run", workers=2, **options).path
    assert state_of(run) == state_of(tmp_path / "whole")


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_workers_end_with_a_run_that_is_killed(pictures):
    """The server that started them lives on, and would keep them."""
    program = f"""
import torch
from multiprocessing import active_children
from sanslabel.sources import batches, open_source
if __name__ == "__main__":
    stream = batches(open_source({str(pictures)!r}), 8, seed=1, epochs=9, workers=2, device=torch.device("cpu"))
    next(stream)
    print(*(process.pid for process in active_children()), flush=True)
    next(iter(input, None))
"""
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as run:
        assert run.stdout is not None
        pids = [int(pid) for pid in run.stdout.readline().split()]
        assert len(pids) == 2
        run.kill()
    until = time.monotonic() + 10
    while any(map(lives, pids)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(map(lives, pids))


def test_workers_are_not_left_behind_where_starting_them_is_broken_off(pictures, monkeypatch):
    start, started = ForkServerProcess.start, []

    def interrupted(process):
        if started:
            raise KeyboardInterrupt
        start(process)
        started.append(process)

    monkeypatch.setattr(ForkServerProcess, "start", interrupted)
    monkeypatch.setattr(_MultiProcessingDataLoaderIter, "__del__", lambda _: None)  # says that it was not begun
    with pytest.raises(KeyboardInterrupt):
        next(batches(open_source(pictures), 8, seed=1, epochs=4, device=CPU, workers=2))
    started[0].join(10)
    assert not started[0].is_alive()


class Deadly:
    """Ends the process that reads it from another."""

    def __reduce__(self):
        return os.abort, ()


def test_workers_that_die_of_what_they_are_given_end_the_run(pictures, soon):
    source = open_source(pictures)
    object.__setattr__(source, "deadly", Deadly())
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(BadInput, match=r"worker process \d+ died while .*\.png.*the third time in a row"):
            next(batches(source, 8, seed=1, epochs=4, device=CPU, workers=1))
    assert sum("others go on in its place" in str(warning.message) for warning in warned) == 2


@pytest.fixture
def warned(monkeypatch) -> list[str]:
    """What is warned of, by another thread too."""
    warned = []
    monkeypatch.setattr(workers, "PATIENCE", 0.3)
    monkeypatch.setattr(workers.warnings, "warn", lambda message, **_: warned.append(message))
    return warned


def test_files_that_are_slow_to_read_are_named(pictures, warned):
    source = open_source(pictures)
    load = source.load
    stream = batches(source, 8, seed=1, epochs=1, device=CPU)
    next(stream)
    assert warned == []
    object.__setattr__(source, "load", lambda request: time.sleep(0.6) or load(request))
    _, second = next(stream)
    names = [source.id(row) for row in second.index[:3].tolist()]
    assert warned == [f"pictures0: waiting for {', '.join(names)} and 5 more for 0 s"]


def test_files_that_a_worker_hangs_in_are_named(pictures, warned):
    source = open_source(pictures)
    expected = [batch.index.tolist() for _, batch in batches(source, 8, seed=1, epochs=4, device=CPU)]
    stream = batches(source, 8, seed=1, epochs=4, device=CPU, workers=1)
    next(stream)
    (worker,) = active_children()
    os.kill(worker.pid, signal.SIGSTOP)
    warned.clear()  # starting it may take long
    go_on = threading.Timer(1.5, lambda: os.kill(worker.pid, signal.SIGCONT))
    go_on.start()
    got = [batch.index.tolist() for _, batch in stream]
    go_on.join()
    assert got == expected[1:]
    (sentence,) = warned
    waited = [rows for rows in expected if f"for {source.id(rows[0])}, {source.id(rows[1])}" in sentence]
    assert len(waited) == 1
