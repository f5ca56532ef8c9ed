import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import sanslabel
from sanslabel import checkpoint, methods
from sanslabel.errors import BadInput, DiskError, NotFinite
from sanslabel.methods.method import Method, Objective
from sanslabel.optimizers import SGD
from sanslabel.recipe import Recipe
from sanslabel.training import session as training
from sanslabel.training.signals import Stopped

DCGAN = {"name": "dcgan", "filters": 8}
SMALL = dict(data="digits", encoder=DCGAN, batch=256, epochs=3, precision="float32", device="cpu")
"""5 steps an epoch"""


def state(run: Path) -> dict[str, bytes]:
    """The bytes of all that a run ended with."""
    newest = checkpoint.newest(run / "checkpoints")
    files = [newest / "networks.safetensors", newest / "optimizers.safetensors", run / "encoder.safetensors"]
    return {f.name: f.read_bytes() for f in files} | {"step": newest.name.encode()}


def narrow(name: str) -> Method:
    """The method with heads of at most 64 numbers."""
    method = methods.method_class(name).under(methods.method_class(name).small)
    wide = {f.name for f in fields(method) if f.name in {"hidden", "width"} and (getattr(method, f.name) or 0) > 64}
    return replace(method, **dict.fromkeys(wide, 64))


def stopping_after(monkeypatch, step: int):
    """A signal that comes while the given step is under way."""
    original = training.optimize

    def interrupted(*args):
        for record in original(*args):
            if record.clock.step + 1 == step:
                os.kill(os.getpid(), signal.SIGTERM)
            yield record

    monkeypatch.setattr(training, "optimize", interrupted)


def test_a_run_leaves_what_it_should(tmp_path):
    run = sanslabel.train(method="simclr", out=tmp_path / "run", **SMALL)
    assert {p.name for p in run.path.iterdir()} == {
        ".lock",
        "checkpoints",
        "config.json",
        "encoder.safetensors",
        "metrics.jsonl",
        "run.json",
    }
    said = json.loads((run.path / "run.json").read_text())
    assert said["format"] == 2
    assert said["method"] == "simclr"
    assert said["hyperparameters"]["temperature"] == 0.2
    assert said["versions"]["torch"] == torch.__version__
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 15]
    assert {"loss", "gradient_norm", "embedding_std", "effective_rank", "learning_rate", "images_per_second"} <= lines[
        0
    ].keys()
    assert lines[1]["loss"] < lines[0]["loss"]
    encoder = run.encoder()
    assert encoder(torch.rand(2, 1, 8, 8)).shape == (2, encoder.width)
    assert encoder.config["scaling"] is not None


STOPS = [
    *(("simclr", step, {}) for step in (1, 5, 6, 14)),
    ("simclr", 4, {"encoder": "conv"}),  # with BatchNorm in the encoder, too
    *(("vicreg", step, {}) for step in (1, 5)),
    ("supervised", 4, {"encoder": "conv"}),
    ("simclr", 4, {"precision": "bfloat16"}),
    ("simclr", 3, {"encoder": "vit_micro", "chunk": 100, "epochs": 1}),
]


@pytest.mark.parametrize(("method", "step", "options"), STOPS)
@pytest.mark.usefixtures("tiny_vit")
def test_stopped_anywhere_and_resumed_it_ends_with_the_same_bits(tmp_path, monkeypatch, method, step, options):
    options, method = SMALL | options, narrow(method)
    whole = sanslabel.train(method=method, out=tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        stopping_after(patch, step)
        with pytest.raises(Stopped, match=f"after step {step}; continue with") as stopped:
            sanslabel.train(method=method, out=tmp_path / "stopped", **options)
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    torch.rand(11)
    resumed = sanslabel.resume(tmp_path / "stopped")
    assert state(resumed.path) == state(whole.path)
    steps = [json.loads(line)["step"] for line in (resumed.path / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize(
    ("method", "workers", "cache"), [("simclr", 0, None), ("simclr", 2, "none"), ("vicreg", 2, "none")]
)
def test_a_folder_resumes_with_any_number_of_workers_and_cache(tmp_path, monkeypatch, method, workers, cache):
    from PIL import Image

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    generator = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for i in range(40):
        pixels = generator.integers(0, 256, (generator.integers(16, 24), 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{i}.png")
    (tmp_path / "pictures" / "broken.png").write_bytes(b"no picture")
    folder = {"data": tmp_path / "pictures", "image_size": 16, "workers": workers, "cache": cache}
    options = SMALL | folder | {"method": method, "batch": 16, "epochs": 2}
    whole = sanslabel.train(out=tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        stopping_after(patch, 3)
        with pytest.raises(Stopped):
            sanslabel.train(out=tmp_path / "stopped", **options)
    assert state(sanslabel.resume(tmp_path / "stopped", cache="disk").path) == state(whole.path)
    assert whole.plan.cache == ("ram" if cache is None else cache)
    assert len(whole.bad_samples()) == 1
    (bad,) = (tmp_path / "stopped" / "bad_samples.jsonl").read_text().splitlines()
    assert json.loads(bad)["sample"] == "broken.png"
    alone = sanslabel.train(out=tmp_path / "alone", **dict(options, workers=2 - workers, cache="disk"))
    assert state(alone.path) == state(whole.path)


def test_killed_without_warning_it_resumes_to_the_same_bits(tmp_path, monkeypatch):
    whole = sanslabel.train(out=tmp_path / "whole", **SMALL)
    program = f"""
import os, signal, sanslabel
from sanslabel.training import session
session.SAVE_AFTER = 0.0
original = session.checkpoint.save
def killed(folder, step, *rest, **more):
    if step == 11:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(folder, step, *rest, **more)
session.checkpoint.save = killed
sanslabel.train(out={str(tmp_path / "killed")!r}, **{SMALL!r})
"""
    threads = str(torch.get_num_threads())
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | {"OMP_NUM_THREADS": threads}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert checkpoint.newest(tmp_path / "killed" / "checkpoints").name == "step-00000010"
    assert state(sanslabel.resume(tmp_path / "killed").path) == state(whole.path)


def test_a_finished_run_resumes_to_itself(tmp_path):
    run = sanslabel.train(out=tmp_path / "run", **SMALL)
    before = state(run.path)
    assert state(sanslabel.resume(run.path).path) == before
    content = json.loads((run.path / "run.json").read_text())
    del content["hyperparameters"]["view"]["solarize"]  # as if an earlier version had no such field
    (run.path / "run.json").write_text(json.dumps(content))
    assert state(sanslabel.resume(run.path, method=run.method()).path) == before
    with pytest.raises(BadInput, match="other hyper-parameters"):
        sanslabel.resume(run.path, method=replace(run.method(), temperature=0.9))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(method="simclear"), "did you mean simclr"),
        (dict(encoder="resnet19"), "did you mean resnet18"),
        (dict(data="nowhere"), "nowhere"),
        (dict(epochs=0), "epochs=0"),
        (dict(batch=-1), "batch=-1"),
        (dict(lr=float("nan")), "lr=nan"),
        (dict(workers=-1), "workers=-1"),
        (dict(cache="tape"), "cache='tape'"),
        (dict(precision="bf16"), "precision='bf16'"),
        (dict(recipe="big"), "recipe='big'"),
        (dict(batch=1), "batch=1"),
        (dict(encoder={"name": "vit_micro", "patch": 3}), "patch"),
        (dict(device="cuda:99"), "device='cuda:99'"),
        (dict(device="toaster"), "device='toaster'"),
    ],
)
def test_bad_input_writes_nothing(tmp_path, options, message):
    with pytest.raises(BadInput, match=message):
        sanslabel.train(out=tmp_path / "run", **dict(SMALL, **options))
    assert not (tmp_path / "run").exists()


def test_a_run_folder_that_exists_is_kept(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("x")
    with pytest.raises(BadInput, match="exists already"):
        sanslabel.train(out=tmp_path / "run", **SMALL)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_what_cannot_be_resumed(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (32, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    run = sanslabel.train(out=tmp_path / "run", **dict(SMALL, data=tmp_path / "images.npy", batch=16)).path
    with pytest.raises(BadInput, match="trained with simclr, not vicreg"):
        sanslabel.resume(run, method="vicreg")
    images[0] = 0
    np.save(tmp_path / "images.npy", images)
    with pytest.raises(BadInput, match="is not the data"):
        sanslabel.resume(run)
    with pytest.raises(BadInput, match="no run here"):
        sanslabel.resume(tmp_path)
    said = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(said | {"format": 3}))
    with pytest.raises(BadInput, match="upgrade"):
        sanslabel.resume(run)


def test_a_signal_to_the_whole_group_spares_the_run(tmp_path):
    """As schedulers send it: the processes that decode hear it, too."""
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    generator = np.random.default_rng(0)
    for i in range(64):
        Image.fromarray(generator.integers(0, 256, (32, 32), dtype=np.uint8)).save(tmp_path / "pictures" / f"{i}.png")
    out = tmp_path / "run"
    flags = ["--epochs", "5000", "--batch", "32", "--workers", "2", "--device", "cpu", "--no-evaluate"]
    command = [sys.executable, "-m", "sanslabel", "train", "--data", str(tmp_path / "pictures"), *flags]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path)}
    process = subprocess.Popen(
        [*command, "--out", str(out)], env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    metrics = out / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert "Traceback" not in said
    assert "continue with" in said
    assert checkpoint.newest(out / "checkpoints") is not None


def test_checkpoints_that_are_all_damaged_are_not_written_over(tmp_path):
    run = sanslabel.train(out=tmp_path / "run", **SMALL)
    for file in (run.path / "checkpoints").glob("*/networks.safetensors"):
        file.write_bytes(b"")
    before = (run.path / "metrics.jsonl").read_text()
    with pytest.warns(UserWarning, match="not what was written"), pytest.raises(BadInput, match="start a new run"):
        sanslabel.resume(run.path)
    assert (run.path / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize("content", ['{"format": 1}', '{"format": 1, "hyperparameters": 5}', "[", '{"format": 3}'])
def test_a_run_file_that_describes_no_run(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(BadInput, match=r"run\.json"):
        sanslabel.resume(tmp_path)


def test_other_versions_are_warned_of(tmp_path):
    run = sanslabel.train(out=tmp_path / "run", **dict(SMALL, epochs=1)).path
    said = json.loads((run / "run.json").read_text())
    said["versions"]["torch"] = "2.10.0"
    (run / "run.json").write_text(json.dumps(said))
    with pytest.warns(UserWarning, match="bits may differ"):
        sanslabel.resume(run)


class Mine(methods.method_class("simclr")):
    """A method of one's own: half a SimCLR."""

    recipe = small = Recipe(optimizer=SGD(lr=0.05), epochs=2, batch=128)


class Exploding(Mine):
    def step(self, net, batch, clock):
        factor = float("inf") if clock.step >= 6 else 1.0
        yield Objective(net.encoder(self.view(batch, 0)).square().mean() * factor)


def test_a_method_of_ones_own_is_an_instance(tmp_path, monkeypatch):
    mine = Mine(temperature=0.3, hidden=32)
    run = sanslabel.train("digits", method=mine, encoder="conv", out=tmp_path / "run")
    assert run.plan.method == "Mine"
    assert run.plan.hyperparameters["temperature"] == 0.3
    with monkeypatch.context() as patch:
        stopping_after(patch, 3)
        with pytest.raises(Stopped):
            sanslabel.train("digits", method=mine, encoder="conv", out=tmp_path / "again")
    with pytest.raises(BadInput, match="hand it over again"):
        sanslabel.resume(tmp_path / "again")
    with pytest.raises(BadInput, match="other hyper-parameters"):
        sanslabel.resume(tmp_path / "again", method=Mine())
    assert state(sanslabel.resume(tmp_path / "again", method=mine).path) == state(run.path)


def test_three_refused_steps_stop_the_run_and_keep_the_last_good_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_AFTER", 0.0)
    with pytest.raises(NotFinite, match="3 steps in a row, up to step 9"):
        sanslabel.train(method=Exploding(), out=tmp_path / "run", **SMALL)
    newest = checkpoint.newest(tmp_path / "run" / "checkpoints")
    tensors = checkpoint.read_tensors(newest / "networks.safetensors")
    assert all(torch.isfinite(t).all() for t in tensors.values())
    refused = [json.loads(x)["refused"] for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert refused == [True, True]


def test_a_full_disk_warns_and_the_third_time_stops(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_AFTER", 0.0)
    original, calls = checkpoint.save, []

    def full(folder, step, *rest, **more):
        calls.append(step)
        if len(calls) > 1:
            raise DiskError(f"{folder}: no space.")
        return original(folder, step, *rest, **more)

    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.warns(UserWarning, match="Training goes on"), pytest.raises(DiskError):
        sanslabel.train(out=tmp_path / "run", **SMALL)
    assert len(calls) == 4
    assert checkpoint.newest(tmp_path / "run" / "checkpoints").name == f"step-{calls[0]:08d}"


def test_training_leaves_the_callers_generator_alone(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    sanslabel.train(out=tmp_path / "run", **dict(SMALL, epochs=1))
    assert torch.equal(torch.rand(3), expected)


def test_chunks_warn_of_batch_norm_and_train(tmp_path, tiny_vit):
    with pytest.warns(UserWarning, match="normalizes each chunk"):
        sanslabel.train(out=tmp_path / "conv", **dict(SMALL, epochs=1, chunk=64, encoder="conv"))
    run = sanslabel.train(out=tmp_path / "vit", **dict(SMALL, epochs=1, chunk=100, encoder="vit_micro"))
    assert run.plan.chunk == 100
