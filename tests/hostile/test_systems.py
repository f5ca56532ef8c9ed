"""What other systems do otherwise, as far as it can be shown on Linux."""

import errno
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sanslabel
from sanslabel.sources import open_source
from sanslabel.training import session

SMALL = dict(data="digits", method="simclr", encoder="mlp", epochs=2, batch=256, device="cpu", precision="float32")


@pytest.fixture
def windows(monkeypatch):
    """Folders cannot be opened, what is open for reading cannot be flushed, `rename` replaces nothing, and text has
    other ends of lines."""
    opening, fsync, rename, write_text = os.open, os.fsync, Path.rename, Path.write_text

    def opened(path, *rest, **options):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opening(path, *rest, **options)

    def flushed(descriptor):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        fsync(descriptor)

    def renamed(path, target):
        if Path(target).exists():
            raise FileExistsError(errno.EEXIST, "File exists", str(target))
        return rename(path, target)

    def written(path, text, encoding=None, errors=None, newline=None):
        return write_text(path, text, encoding, errors, newline or "\r\n")

    monkeypatch.delattr(os, "O_DIRECTORY")
    monkeypatch.setattr(shutil, "_use_fd_functions", False)  # of removing folders
    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "rename", renamed)
    monkeypatch.setattr(Path, "write_text", written)


def test_a_run_is_stopped_resumed_and_evaluated_twice_on_windows(windows, tmp_path, monkeypatch):
    optimize = session.optimize

    def stopped(*args):
        for record in optimize(*args):
            yield record
            if record.clock.step == 6:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(session, "optimize", stopped)
        patch.setattr(session, "SAVE_AFTER", 0.0)
        with pytest.raises(KeyboardInterrupt):
            sanslabel.train(out=tmp_path / "run", **SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = sanslabel.resume(tmp_path / "run")
        sanslabel.evaluate(run.path, protocols=("knn",))
        sanslabel.evaluate(run.path, protocols=("knn",))
    steps = [json.loads(line)["step"] for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))


def test_the_memory_of_optimizers_leaves_the_checkpoint_closed(tmp_path):
    """An open file could not be removed on Windows."""
    maps, follow = [], session.Session.restore_

    def restored(self):
        done = follow(self)
        maps.append(Path("/proc/self/maps").read_text())
        return done

    sanslabel.train(out=tmp_path / "run", **SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session.Session, "restore_", restored)
        sanslabel.resume(tmp_path / "run")
    assert str(tmp_path) not in maps[0]


def test_split_folders_are_found_where_case_does_not_count(tmp_path, monkeypatch):
    for number, split in enumerate(("Train", "Test")):
        for name in ("a", "b"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            Image.new("RGB", (16, 16), (number, ord(name), 0)).save(folder / "0.png")
    is_dir = Path.is_dir
    monkeypatch.setattr(Path, "is_dir", lambda path: is_dir(path) or is_dir(path.with_name(path.name.capitalize())))
    for split in ("train", "test"):
        source = open_source(tmp_path, split)
        assert source.classes == ("a", "b")
        assert [source.id(row) for row in range(2)] == [f"{split.capitalize()}/{name}/0.png" for name in ("a", "b")]


def test_heic_is_told_of(tmp_path):
    for row in range(3):
        Image.new("RGB", (16, 16), (row, 0, 0)).save(tmp_path / f"{row}.png")
    (tmp_path / "IMG_1.HEIC").write_bytes(b"")
    with pytest.warns(UserWarning, match="1 HEIC pictures are left out; convert them to JPEG"):
        assert len(open_source(tmp_path)) == 3


ENCODINGS = ("cp1252", "cp932", "UTF-8")
COMMANDS = """
import sys
from sanslabel.cli import main
for encoding in sys.argv[1:]:
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding=encoding)
    for line in (
        "train vicreg --help",
        "train simclr --epochs many",
        f"train simclr --out фото-{encoding} --data few.npz --encoder mlp --epochs 1 --batch 60",
    ):
        try:
            main(line.split())
        except SystemExit as stop:
            for stream in (sys.stdout, sys.stderr):
                print(f"@{stop.code}@", file=stream, flush=True)
    for stream in (sys.stdout, sys.stderr):
        print("@encoding@", file=stream, flush=True)
"""


def test_consoles_of_other_encodings(tmp_path):
    """In one process, which takes the encodings one after the other, since most of its time is that of its start."""
    (tmp_path / "commands.py").write_text(COMMANDS, encoding="utf-8")
    pixels = np.random.default_rng(0).integers(0, 256, (120, 8, 8), np.uint8)
    np.savez(tmp_path / "few.npz", images=pixels, labels=np.arange(120) % 3)
    command = [sys.executable, "-X", "utf8=0", "commands.py", *ENCODINGS]
    settings = os.environ | {"PYTHONIOENCODING": ENCODINGS[0], "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, env=settings, cwd=tmp_path, check=False)
    printed = [stream.split(b"@encoding@")[:-1] for stream in (done.stdout, done.stderr)]
    assert list(map(len, printed)) == [len(ENCODINGS)] * 2, done.stderr
    for output, errors in zip(*printed, strict=True):
        assert re.findall(rb"@(\d)@", output) == [b"0", b"2", b"0"], done.stderr
        helped, refused, trained = re.split(rb"@\d@", errors)[:3]
        assert helped.strip() == b""
        assert b"--epochs" in refused
        assert b"Traceback" not in trained
        assert b"kNN" in output


def test_method_files_are_read_in_any_locale(monkeypatch):
    from sanslabel import methods

    def read_text(path, encoding=None, *_):
        assert encoding is not None, path
        return path.read_bytes().decode(encoding)

    monkeypatch.setattr(Path, "read_text", read_text)
    assert all(methods.sentence(name) for name in methods.names())
