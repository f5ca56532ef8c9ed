"""SIGINT, SIGTERM and SIGUSR1, wherever a command is when they come."""

import os
import signal
import time

import pytest

import sanslabel
from sanslabel import checkpoint
from sanslabel.training import session
from sanslabel.training.signals import Stopped

pytestmark = pytest.mark.faults

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]
every_signal = pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
AT_ONCE = 5.0
"""seconds; most of them are for a busy machine"""


@pytest.fixture(scope="module")
def whole(starter, tmp_path_factory, quick, state_of) -> dict[str, bytes]:
    """What the quick run ends with that nobody stops."""
    run = tmp_path_factory.mktemp("whole") / "run"
    sanslabel.train(out=run, **options(quick))
    return state_of(run)


def options(quick) -> dict[str, str | int]:
    """The flags of `quick` as Python takes them."""
    found = dict(zip((flag[2:] for flag in quick[1:-1:2]), quick[2:-1:2], strict=True))
    return found | {"epochs": 3, "batch": 256}


def left(process, number: int) -> float:
    """Seconds until it has left with the signal's exit code."""
    began = time.monotonic()
    process.kill(number)
    assert process.ended() == 128 + number, process.log.read_text()
    assert "Traceback" not in process.log.read_text()
    return time.monotonic() - began


@every_signal
@pytest.mark.parametrize(("place", "saved"), [("step", 3), ("save", 3)])
def test_a_step_or_save_is_finished_first_and_the_rest_resumes(
    start, tmp_path, quick, whole, state_of, number, place, saved
):
    run = tmp_path / "run"
    process = start("train", *quick, "--out", run, place=place, seconds=0.4).reached()
    assert left(process, number) < 0.4 + AT_ONCE
    assert f"sanslabel: stopped after step {saved}; continue with: sanslabel train --resume" in process.log.read_text()
    assert checkpoint.newest(run / "checkpoints").name == f"step-{saved:08d}"
    sanslabel.resume(run)
    assert state_of(run) == whole


@pytest.mark.parametrize(
    ("workers", "cache", "number"),
    [*((0, "none", number) for number in SIGNALS), (2, "none", signal.SIGTERM), (0, "ram", signal.SIGTERM)],
)
def test_a_wait_for_data_is_left_at_once(start, tmp_path, pictures, workers, cache, number):
    run = tmp_path / "run"
    flags = ["--encoder", "mlp", "--epochs", "20", "--batch", "16", "--workers", workers, "--no-evaluate"]
    flags += ["--cache", cache]
    process = start("train", "--data", pictures, *flags, "--out", run, place="data").reached()
    time.sleep(0.2)  # what was decoded before is used up
    assert left(process, number) < AT_ONCE
    saved = checkpoint.read_state(checkpoint.newest(run / "checkpoints"))["step"]
    assert saved >= 3
    assert f"stopped after step {saved}; continue with" in process.log.read_text()


def test_a_wait_for_the_first_batch_leaves_nothing_behind(tmp_path, monkeypatch, quick, whole, state_of):
    batches = session.batches

    def interrupted(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)
        yield from batches(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(session, "batches", interrupted)
        with pytest.raises(Stopped, match="stopped before the first step; repeat the command"):
            sanslabel.train(out=tmp_path / "run", **options(quick))
    assert not (tmp_path / "run").exists()
    sanslabel.train(out=tmp_path / "run", **options(quick))
    assert state_of(tmp_path / "run") == whole


@every_signal
def test_before_the_first_step_nothing_is_left_behind(start, tmp_path, quick, number):
    process = start("train", *quick, "--out", tmp_path / "run", place="opening").reached()
    assert left(process, number) < AT_ONCE
    assert not (tmp_path / "run").exists()


@every_signal
def test_evaluation_is_left_at_once_and_the_way_back_told(start, tmp_path, quick, number):
    run = tmp_path / "run"
    process = start("train", *quick[:-1], "--out", run, place="evaluation").reached()
    assert left(process, number) < AT_ONCE
    assert f"evaluate it with: sanslabel evaluate {run}" in process.log.read_text()
    assert (run / "encoder.safetensors").exists()
    alone = start("evaluate", run, place="evaluation").reached()
    assert left(alone, number) < AT_ONCE
    assert "; repeat the command\n" in alone.log.read_text()


@every_signal
def test_an_export_is_left_at_once_and_made_up_for(start, tmp_path, quick, whole, state_of, number):
    run = tmp_path / "run"
    process = start("train", *quick, "--out", run, place="export").reached()
    assert left(process, number) < AT_ONCE
    assert not (run / "encoder.safetensors").exists()
    sanslabel.resume(run)
    assert state_of(run) == whole


@every_signal
@pytest.mark.parametrize("place", ["step", "save"])
def test_a_second_signal_leaves_at_once(start, tmp_path, quick, number, place):
    run = tmp_path / "run"
    process = start("train", *quick, "--out", run, place=place).reached()
    process.kill(number)
    time.sleep(0.1)
    assert left(process, number) < AT_ONCE
    assert "repeat the command, or continue its run folder with --resume" in process.log.read_text()
