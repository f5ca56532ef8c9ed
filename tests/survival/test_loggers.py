"""Figures that cannot be written and sentences that nobody reads never stop a run."""

import os
import subprocess
import sys
from contextlib import suppress
from io import StringIO
from pathlib import Path

import pytest

import sanslabel
from sanslabel.console import RobustStream
from sanslabel.training import journal

pytestmark = pytest.mark.faults

OPTIONS = dict(data="digits", encoder="mlp", epochs=3, batch=256, precision="float32", device="cpu")


def test_metrics_on_a_full_disk(tmp_path, monkeypatch):
    opened = Path.open

    def full(path, mode="r", *rest, **more):
        if path.name == "metrics.jsonl" and mode == "a":
            raise OSError(28, "No space left on device")
        return opened(path, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", full)
    with pytest.warns(
        UserWarning, match=r"metrics\.jsonl: a line could not be written.*No space.*Training goes on"
    ) as said:
        run = sanslabel.train(out=tmp_path / "run", **OPTIONS)
    assert len(said) == 2
    assert (run.path / "encoder.safetensors").exists()


def test_lines_are_cut_back_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    before = '{"step": 10}\n{"step": 20}\n'
    path.write_text(before)
    written = Path.write_text

    def half(path, text, *_, **__):
        written(path, text[: len(text) // 2])
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", half)
        with pytest.warns(UserWarning, match="Input/output error"):
            journal.Metrics.resumed(path, 10)
    assert path.read_text() == before
    journal.Metrics.resumed(path, 10)
    assert path.read_text() == '{"step": 10}\n'


@pytest.mark.parametrize("method", ["__init__", "add_scalar", "flush", "close"])
def test_a_tracker_that_fails_anywhere_is_told_of_once(tmp_path, monkeypatch, method):
    pytest.importorskip("tensorboard")
    from torch.utils import tensorboard

    def failing(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(tensorboard.SummaryWriter, method, failing)
    if method == "close":  # there is nothing left to lose then
        run = sanslabel.train(out=tmp_path / "run", track="tensorboard", **OPTIONS)
    else:
        with pytest.warns(UserWarning, match="track='tensorboard': failed and is left out from now on") as said:
            run = sanslabel.train(out=tmp_path / "run", track="tensorboard", **OPTIONS)
        assert len(said) == 1
    assert (run.path / "encoder.safetensors").exists()


@pytest.fixture
def unread():
    """A stream whose reader has left."""
    read, write = os.pipe()
    os.close(read)
    stream = os.fdopen(write, "w", buffering=1)
    yield stream
    with suppress(OSError):
        stream.close()


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("what", ["unread", "closed", "missing"])
def test_nobody_reads_what_it_says(tmp_path, monkeypatch, unread, terminal, what):
    monkeypatch.setattr(unread, "isatty", lambda: terminal)
    if what == "closed":
        unread.close()
    monkeypatch.setattr(sys, "stderr", None if what == "missing" else unread)
    run = sanslabel.train(out=tmp_path / "run", **OPTIONS)
    assert (run.path / "encoder.safetensors").exists()


def test_a_stream_that_lasts_says_what_it_can(unread):
    said = StringIO()
    print("word", file=RobustStream(said))
    assert said.getvalue() == "word\n"
    stream = RobustStream(unread)
    for _ in "ab":
        print("word", file=stream, flush=True)
    assert not stream.isatty()
    unread.close()  # what could not be written is not tried again


@pytest.mark.parametrize("redirection", ["--no-evaluate 2>&-", "2>&1 >/dev/null | true"])
def test_a_command_without_a_reader_goes_on_to_its_end(tmp_path, redirection):
    flags = "--data digits --encoder mlp --epochs 1 --batch 256 --device cpu"
    command = f"{sys.executable} -m sanslabel train simclr {flags} --out {tmp_path}/run {redirection}"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "encoder.safetensors").exists()
    assert (tmp_path / "run" / "evaluation").exists() == ("no-evaluate" not in redirection)
