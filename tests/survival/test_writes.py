"""Every call of a save that can fail is made to fail, once each: with a full disk and with a broken one."""

import errno
import os
import resource
import shutil
import warnings
from collections import namedtuple
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

import sanslabel
from sanslabel import checkpoint, cli
from sanslabel.errors import DiskError, NotFinite
from sanslabel.training import disk_space, session

OPTIONS = dict(data="digits", encoder="mlp", epochs=3, batch=256, precision="float32", device="cpu")
"""15 steps"""


class Calls:
    """Counts the calls that reach the disk, and fails one of them; a write has put down half by then."""

    AT_DISK = ((os, "mkdir"), (os, "open"), (os, "fsync"), (os, "rename"), (os, "unlink"), (os, "rmdir"))

    def __init__(self, patch: pytest.MonkeyPatch, fatal: int | None = None, code: int = errno.ENOSPC):
        self.made: list[str] = []
        self.fatal, self.code = fatal, code
        for home, name in self.AT_DISK:
            patch.setattr(home, name, self.counted(name, getattr(home, name)))
        patch.setattr(Path, "write_bytes", self.counted("write_bytes", Path.write_bytes))
        patch.setattr(checkpoint, "save_file", self.counted("save_file", checkpoint.save_file))

    def counted(self, name: str, original):
        def call(*arguments, **options):
            self.made.append(name)
            if len(self.made) - 1 != self.fatal:
                return original(*arguments, **options)
            if name == "write_bytes":
                path, text = arguments
                original(path, text[: len(text) // 2])
            if name == "save_file":
                original(*arguments, **options)
                os.truncate(arguments[1], os.path.getsize(arguments[1]) // 2)
                raise SafetensorError(f"I/O error: {os.strerror(self.code)}")
            raise OSError(self.code, os.strerror(self.code))

        return call


def parts(step: int) -> dict:
    return {"networks": {"weight": torch.full((50,), float(step))}, "optimizers": {"slot": torch.full((9,), 1.0)}}


def two_checkpoints(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for step in (1, 2):
        checkpoint.save(folder, step, parts(step), {})


def calls_of_a_save(folder: Path) -> list[str]:
    two_checkpoints(folder)
    with pytest.MonkeyPatch.context() as patch:
        calls = Calls(patch)
        checkpoint.save(folder, 3, parts(3), {})
    return calls.made


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["full", "broken"])
def test_whichever_call_of_a_save_fails_the_checkpoint_before_loads(tmp_path, code):
    folder = tmp_path / "checkpoints"
    made = calls_of_a_save(folder)
    for name in ("mkdir", "open", "fsync", "rename", "unlink", "rmdir", "write_bytes", "save_file"):
        assert name in made
    assert made[0] == "mkdir"
    for fatal in range(len(made)):
        two_checkpoints(folder)
        with pytest.MonkeyPatch.context() as patch:
            calls = Calls(patch, fatal, code)
            # A folder that is there already need not be made.
            with nullcontext() if fatal == 0 else pytest.raises(DiskError, match=os.strerror(code)):
                checkpoint.save(folder, 3, parts(3), {})
        assert calls.made[: fatal + 1] == made[: fatal + 1], "the same calls as in a save that succeeds"
        assert not [checkpoint._fault(path) for path in checkpoint.checkpoints(folder) if checkpoint._fault(path)]
        found = checkpoint.newest(folder)
        step = checkpoint.read_state(found)["step"]
        assert step in {2, 3}
        assert checkpoint.read_tensors(found / "networks.safetensors")["weight"].eq(step).all()
        assert (folder / "step-00000002").is_dir()
        checkpoint.sweep(folder)
        assert {path.name[:5] for path in folder.iterdir()} == {"step-"}
        checkpoint.save(folder, 4, parts(4), {})
        assert checkpoint.newest(folder).name == "step-00000004"
        assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_limit_of_the_system_on_what_may_be_written(tmp_path, share):
    """The write itself fails here, inside the library that makes it."""
    two_checkpoints(tmp_path)
    large = {"networks": {"weight": torch.zeros(100_000)}}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(400_000 * share), hard))
    try:
        with pytest.raises(DiskError, match="could not be written"):
            checkpoint.save(tmp_path, 3, large, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert checkpoint.newest(tmp_path).name == "step-00000002"
    assert not list(tmp_path.glob(".*"))


def test_a_checkpoint_of_the_same_step_is_never_lost(tmp_path):
    """One that is whole stays; one that is not is replaced, with no moment at which another would be gone."""
    first = checkpoint.save(tmp_path, 1, parts(1), {}, keep=1)
    with pytest.MonkeyPatch.context() as patch:
        made = Calls(patch).made
        assert checkpoint.save(tmp_path, 1, parts(1), {}, keep=1) == first
        assert "rename" not in made
        assert "unlink" not in made
    (first / "networks.safetensors").write_bytes(b"")
    checkpoint.save(tmp_path, 1, parts(1), {}, keep=1)
    assert checkpoint.newest(tmp_path) == first


def test_values_that_are_not_finite_are_not_saved_and_push_nothing_out(tmp_path):
    two_checkpoints(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for spoiled in (float("nan"), float("inf"), -float("inf")):
        bad = parts(3)
        bad["optimizers"]["slot"][4] = spoiled
        with pytest.raises(NotFinite, match="slot of optimizers"):
            checkpoint.save(tmp_path, 3, bad, {})
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_warns_twice_and_ends_the_run_the_third_time(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(session, "SAVE_AFTER", 0.0)
    save, flush, steps = checkpoint.save, checkpoint._flush, []

    def counted(folder, step, *rest):
        steps.append(step)
        return save(folder, step, *rest)

    def full(path):
        if len(steps) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(path)

    monkeypatch.setattr(checkpoint, "save", counted)
    monkeypatch.setattr(checkpoint, "_flush", full)
    flags = [part for name, value in OPTIONS.items() for part in (f"--{name}", str(value))]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with pytest.raises(SystemExit) as ended:
            cli.main(["train", *flags, "--out", str(tmp_path / "run")])
    assert ended.value.code == 3
    said = capsys.readouterr().err
    assert said.count("Training goes on.") == 2
    assert "sanslabel: error:" in said
    assert steps == [1, 2, 3, 4, 5]
    assert checkpoint.newest(tmp_path / "run" / "checkpoints").name == "step-00000002"


def test_what_an_earlier_start_left_is_gone_before_the_first_step(tmp_path, monkeypatch):
    run = sanslabel.train(out=tmp_path / "run", **OPTIONS).path
    (run / "checkpoints" / ".step-00000020.part").mkdir()
    (run / "checkpoints" / ".step-00000020.part" / "networks.safetensors").write_bytes(b"half")
    (run / ".encoder.safetensors.part").write_bytes(b"half")

    def looked_at(*_):
        assert not list(run.rglob(".*.part"))
        return iter(())

    monkeypatch.setattr(session, "optimize", looked_at)
    sanslabel.resume(run)


Usage = namedtuple("Usage", ["total", "used", "free"])


def test_a_disk_that_cannot_hold_a_checkpoint_is_told_before_training(tmp_path, monkeypatch):
    whole = sanslabel.train(out=tmp_path / "whole", **OPTIONS).path
    files = checkpoint.newest(whole / "checkpoints").iterdir()
    size = sum(file.stat().st_size for file in files if file.suffix == ".safetensors")
    free = [0]
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda path: Usage(0, 0, free[0]))
    free[0] = int(size * 0.9)
    with pytest.raises(DiskError, match=r"a checkpoint takes 4\.1 MiB and the disk has 3\.7 MiB left"):
        sanslabel.train(out=tmp_path / "run", **OPTIONS)
    free[0] = int(size * 1.1)
    with pytest.warns(UserWarning, match=r"will take 12\.2 MiB more and the disk has 4\.5 MiB left"):
        run = sanslabel.train(out=tmp_path / "run", **OPTIONS).path  # the refusal was no beginning
    free[0] = int(size * 2.1)
    sanslabel.resume(run)  # one is there, so two more are enough


@pytest.mark.parametrize("optimizer", ["simclr", "moco", "dcgan"])
def test_the_estimate_is_of_what_is_written(tmp_path, monkeypatch, optimizer):
    estimates, size = [], disk_space.checkpoint_bytes
    monkeypatch.setattr(disk_space, "checkpoint_bytes", lambda *a: estimates.append(size(*a)) or estimates[-1])
    encoder = {} if optimizer == "dcgan" else {"encoder": "mlp"}
    options = {"data": "digits", "epochs": 1, "batch": 256} | encoder
    run = sanslabel.train(method=optimizer, out=tmp_path / "run", **options).path
    files = checkpoint.newest(run / "checkpoints").glob("*.safetensors")
    assert estimates == [pytest.approx(sum(file.stat().st_size for file in files), rel=0.02)]


def test_a_folder_that_cannot_be_written_is_refused_before_training(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(session, "optimize", None)
    with pytest.raises(DiskError, match=r"cannot be written.*choose another `out`"):
        sanslabel.train(out=tmp_path / "file" / "run", **OPTIONS)


def test_a_run_on_a_disk_that_became_read_only_is_refused_before_training(tmp_path, monkeypatch):
    run = sanslabel.train(out=tmp_path / "run", **OPTIONS).path
    monkeypatch.setattr(session, "optimize", None)
    opened = os.open

    def read_only(path, flags, *rest, **more):
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return opened(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(DiskError, match="Read-only file system"):
        sanslabel.resume(run)
