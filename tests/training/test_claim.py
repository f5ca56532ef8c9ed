"""Folders of runs: when a new run gets one, and when it is removed again."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sanslabel
from sanslabel import checkpoint
from sanslabel.errors import BadInput
from sanslabel.training import run as running
from sanslabel.training import session
from sanslabel.training.claim import new_folder
from sanslabel.training.signals import Stopped
from sanslabel.wording import flags_in_sentences

SMALL = dict(data="digits", encoder={"name": "mlp", "hidden": [16]}, batch=256, epochs=1, device="cpu")
"""five steps"""


def failing(error: BaseException, after: int):
    """Optimization that fails after a number of steps."""
    optimize = session.optimize

    def optimized(*args):
        for number, record in enumerate(optimize(*args), 1):
            yield record
            if number == after:
                raise error
        if after == 0:
            raise error

    return (lambda *args: raising(error)) if after == 0 else optimized


def raising(error: BaseException):
    raise error
    yield


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt(), RuntimeError("out of memory")])
def test_a_run_that_fails_before_its_first_step_leaves_nothing(tmp_path, monkeypatch, error):
    monkeypatch.setattr(session, "optimize", failing(error, 0))
    with pytest.raises((type(error), BadInput)):
        sanslabel.train(out=tmp_path / "a" / "b" / "run", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_stays_and_so_do_foreign_files(tmp_path, monkeypatch):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    run.mkdir()
    elsewhere.mkdir()
    (elsewhere / "run.json").write_text("mine")

    def cached(*args):
        (run / "notes.txt").write_text("mine")  # by somebody else, while the run begins
        (run / "bad_samples.jsonl").symlink_to(elsewhere / "run.json")
        raise BadInput("bad")

    monkeypatch.setattr(running, "cached", cached)
    with pytest.raises(BadInput, match="bad"):
        sanslabel.train(out=run, **SMALL)
    assert sorted(path.name for path in run.iterdir()) == ["bad_samples.jsonl", "notes.txt"]
    assert (elsewhere / "run.json").read_text() == "mine"


def test_checkpoints_that_are_a_link_are_left_alone(tmp_path, monkeypatch):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".mine.part").write_text("")

    def cached(*args):
        (run / "checkpoints").symlink_to(elsewhere)
        raise BadInput("bad")

    monkeypatch.setattr(running, "cached", cached)
    with pytest.raises(BadInput, match="bad"):
        sanslabel.train(out=run, **SMALL)
    assert [path.name for path in elsewhere.iterdir()] == [".mine.part"]
    assert [path.name for path in run.iterdir()] == ["checkpoints"]


def test_a_run_with_a_checkpoint_or_a_figure_stays(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(session, "optimize", failing(BadInput("bad"), 2))
        patch.setattr(session, "SAVE_AFTER", 0.0)
        with pytest.raises(BadInput):
            sanslabel.train(out=tmp_path / "saved", **SMALL)
        with pytest.raises(BadInput):
            sanslabel.resume(tmp_path / "saved")
    assert checkpoint.newest(tmp_path / "saved" / "checkpoints").name.startswith("step-0000000")
    assert (tmp_path / "saved" / "run.json").exists()
    monkeypatch.setattr(session, "optimize", failing(BadInput("bad"), 10))
    with pytest.raises(BadInput):
        sanslabel.train(out=tmp_path / "logged", **SMALL | {"epochs": 3})
    assert (tmp_path / "logged" / "metrics.jsonl").read_text().count("\n") == 1


def test_a_signal_before_the_first_step_leaves_nothing(tmp_path, monkeypatch):
    batches = session.batches

    def interrupted(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)
        yield from batches(*args, **kwargs)

    monkeypatch.setattr(session, "batches", interrupted)
    with pytest.raises(Stopped, match="stopped before the first step; repeat the command to start again"):
        sanslabel.train(out=tmp_path / "run", **SMALL)
    assert not (tmp_path / "run").exists()


def test_after_bad_pictures_were_mended_the_same_command_works(tmp_path):
    """The errors name the pictures, since no folder with a list of them remains."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for row in range(20):
        Image.fromarray(np.full((8, 8), row, np.uint8)).save(photos / f"{row:02}.png")
        if row in {3, 5, 7, 11, 13}:
            (photos / f"{row:02}.png").write_bytes(b"damaged")
    options = {**SMALL, "data": photos, "batch": 8, "workers": 0, "image_size": 8, "epochs": 2, "cache": "none"}
    with pytest.raises(BadInput, match=r"more than 1 % of the 20 samples cannot be read: (\d\d.png, )+\d\d.png"):
        sanslabel.train(out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
    for row in (3, 5, 7, 11, 13):
        (photos / f"{row:02}.png").unlink()
    assert not sanslabel.train(out=tmp_path / "run", **options).unfinished


@pytest.fixture
def at_command_line():
    with flags_in_sentences():
        yield


@pytest.mark.usefixtures("at_command_line")
def test_what_is_there_already_is_named(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(BadInput, match=r"file: exists already and is no folder; name a new folder with --out\.$"):
        new_folder(file, "simclr", "digits")
    folder = tmp_path / "a folder"
    folder.mkdir()
    assert new_folder(folder, "simclr", "digits") == folder
    (folder / "thesis.tex").write_text("")
    with pytest.raises(BadInput, match=r"exists already and has other files in it; name a new folder with --out\.$"):
        new_folder(folder, "simclr", "digits")
    (folder / "thesis.tex").unlink()
    sanslabel.train(out=folder, **SMALL)
    with pytest.raises(BadInput, match="with a finished run; name another folder with --out, or remove this one"):
        new_folder(folder, "simclr", "digits")
    Path(folder, "config.json").unlink()
    with pytest.raises(BadInput, match=r"not ended; continue it with sanslabel train --resume '.*/a folder', or name"):
        new_folder(folder, "simclr", "digits")
