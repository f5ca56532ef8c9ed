"""Two starts on one run folder."""

import fcntl
import os
import socket
import threading
import time

import pytest

import sanslabel
from sanslabel.errors import BadInput
from sanslabel.training.lock import locked

pytestmark = pytest.mark.faults

OPTIONS = dict(data="digits", encoder="mlp", epochs=3, batch=256, precision="float32", device="cpu")


def test_a_second_start_is_refused_by_name_and_a_dead_one_taken_over(start, tmp_path, quick, state_of):
    run = tmp_path / "run"
    holder = start("train", *quick, "--out", run, place="step").reached()
    named = f"is being trained by process {holder.pid} on {socket.gethostname()}"
    for again in (lambda: sanslabel.resume(run), lambda: sanslabel.train(out=run, **OPTIONS)):
        began = time.monotonic()
        with pytest.raises(BadInput, match=named):
            again()
        assert time.monotonic() - began < 1
    command = start("train", "--resume", run)
    assert command.ended() == 2
    assert named in command.log.read_text()
    holder.kill()
    assert holder.ended() == -9
    assert str(holder.pid) in (run / ".lock").read_text()
    sanslabel.resume(run)
    sanslabel.train(out=tmp_path / "whole", **OPTIONS)
    assert state_of(run) == state_of(tmp_path / "whole")
    assert (run / ".lock").read_text() == ""


def test_the_lock_of_a_run_with_workers_dies_with_it(start, tmp_path, pictures):
    """Although the processes that decode live a little longer."""
    run = tmp_path / "run"
    flags = [
        "--encoder",
        "mlp",
        "--epochs",
        "20",
        "--batch",
        "16",
        "--workers",
        "1",
        "--no-evaluate",
        "--cache",
        "none",
    ]
    holder = start("train", "--data", pictures, *flags, "--out", run, place="data").reached()
    holder.kill()
    holder.ended()
    with locked(run):
        pass


def test_of_two_first_starts_one_trains(start, tmp_path, quick):
    run = tmp_path / "run"
    both = [start("train", *quick, "--out", run, place="step", seconds=1) for _ in "ab"]
    assert sorted(process.ended() for process in both) == [0, 2]
    (refused,) = (process.log.read_text() for process in both if process.code == 2)
    (other,) = (process.pid for process in both if process.code == 0)
    assert f"is being trained by process {other} on" in refused


def test_a_holder_without_a_name_is_given_time_to_write_it(tmp_path):
    """A process that is refused in the moment between the lock and the name learns the name all the same."""
    file = tmp_path / ".lock"
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    timer = threading.Timer(0.2, file.write_text, ["process 7 on elsewhere"])
    timer.start()
    with pytest.raises(BadInput, match="process 7 on elsewhere"), locked(tmp_path):
        pass
    os.ftruncate(descriptor, 0)
    with pytest.raises(BadInput, match="another process"), locked(tmp_path):
        pass
    os.close(descriptor)
    with locked(tmp_path):
        pass


def test_it_is_released_at_the_end_and_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        raise ZeroDivisionError
    with locked(tmp_path):
        assert (tmp_path / ".lock").read_text() == f"process {os.getpid()} on {socket.gethostname()}"
        with pytest.raises(BadInput, match=f"process {os.getpid()}"), locked(tmp_path):
            pass
    with locked(tmp_path):
        pass


def test_where_the_file_system_has_no_locks_it_warns_and_goes_on(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refused)
    with pytest.warns(UserWarning, match="Operation not supported"), locked(tmp_path):
        pass
