import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from sanslabel import checkpoint, encoders
from sanslabel.errors import BadInput, DiskError
from sanslabel.evaluation.feature_cache import FeatureCache


def parts(value: float) -> dict:
    return {"networks": {"weight": torch.full((3, 2), value), "count": torch.tensor(7)}, "optimizers": {}}


def test_there_and_back(tmp_path):
    weights = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    net = {"a": weights, "b": torch.arange(5), "c": torch.randn(2).bfloat16(), "twin": weights, "empty": torch.empty(0)}
    saved = checkpoint.save(tmp_path, 12, {"networks": net}, {"epoch": 3})
    assert checkpoint.newest(tmp_path) == saved
    loaded = checkpoint.read_tensors(saved / "networks.safetensors")
    assert loaded.keys() == net.keys()
    assert all(torch.equal(loaded[name], net[name]) and loaded[name].dtype == net[name].dtype for name in net)
    assert loaded["twin"].data_ptr() == loaded["a"].data_ptr()
    assert checkpoint.read_state(saved) == {"format": 1, "step": 12, "epoch": 3}


def test_the_newest_few_are_kept(tmp_path):
    for step in (1, 2, 10):
        checkpoint.save(tmp_path, step, parts(step), {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000010"]
    checkpoint.save(tmp_path, 9, parts(9), {})  # resumed from step 2, since step 10 was damaged
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000009"]


@pytest.mark.parametrize("harm", ["truncate", "flip", "delete", "manifest", "no manifest"])
def test_a_harmed_checkpoint_is_found_and_the_one_before_it_used(tmp_path, harm):
    good = checkpoint.save(tmp_path, 1, parts(1), {})
    bad = checkpoint.save(tmp_path, 2, parts(2), {})
    file = bad / ("manifest.json" if "manifest" in harm else "networks.safetensors")
    content = bytearray(file.read_bytes())
    if harm == "truncate":
        file.write_bytes(content[:-1])
    elif harm == "flip":
        content[-3] ^= 4
        file.write_bytes(content)
    elif harm == "manifest":
        file.write_bytes(content[: len(content) // 2])
    else:
        file.unlink()
    with pytest.warns(UserWarning, match="falling back") as warned:
        assert checkpoint.newest(tmp_path) == good
    assert len(warned) == 1
    assert str(bad) in str(warned[0].message)


@pytest.mark.parametrize(
    ("home", "name"), [(os, "fsync"), (Path, "rename"), (Path, "write_text"), (checkpoint, "save_file")]
)
def test_a_save_that_fails_at_any_call_leaves_the_one_before(tmp_path, monkeypatch, home, name):
    good = checkpoint.save(tmp_path, 1, parts(1), {})
    original = getattr(home, name)
    calls: list[int] = []

    def failing_at(fatal: int):
        def call(*args, **kwargs):
            calls.append(1)
            if len(calls) == fatal:
                raise OSError(28, "No space left on device")
            return original(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(home, name, failing_at(-1))
        checkpoint.save(tmp_path, 2, parts(2), {}, keep=5)
    for fatal in range(1, len(calls) + 1):
        shutil.rmtree(tmp_path / "step-00000002", ignore_errors=True)
        calls.clear()
        with monkeypatch.context() as patch:
            patch.setattr(home, name, failing_at(fatal))
            with pytest.raises(DiskError, match="No space left"):
                checkpoint.save(tmp_path, 2, parts(2), {}, keep=5)
        assert checkpoint.newest(tmp_path) in {good, tmp_path / "step-00000002"}
        assert checkpoint.read_tensors(good / "networks.safetensors")["weight"][0, 0] == 1
    checkpoint.save(tmp_path, 3, parts(3), {})
    assert not list(tmp_path.glob(".*"))


def test_an_old_configuration_beside_weights_of_another_network_is_refused():
    """Configurations of earlier versions do not state the kind of positions, which the weights show."""
    vit = encoders.build("vit_micro", channels=1, image_size=8)
    old = {name: value for name, value in vit.config.items() if name != "positions"}
    others = [encoders.build("conv", channels=1, image_size=8).state_dict(), {"pos_embed": torch.ones(())}]
    for tensors in others:
        with pytest.raises(BadInput, match="it is of another network"):
            checkpoint.encoder_of(old, tensors, Path("encoder.safetensors"))


def run_folder(tmp_path) -> Path:
    student = encoders.build("conv", channels=1, image_size=8)
    checkpoint.save_encoders(tmp_path, {"student": student, "teacher": encoders.build(**student.config)})
    return tmp_path


def test_encoders_are_exported_and_loaded_by_name(tmp_path):
    student = encoders.build("conv", channels=1, image_size=8, scaling=((0.3,), (0.2,)))
    teacher = encoders.build(**student.config)
    checkpoint.save_encoders(tmp_path, {"student": student, "teacher": teacher})
    images = torch.rand(3, 1, 8, 8)
    for name, module in {None: student, "student": student, "teacher": teacher}.items():
        loaded = checkpoint.load_encoder(tmp_path, name)
        assert not loaded.training
        torch.testing.assert_close(loaded(images), module.eval()(images))
    assert checkpoint.encoder_file(tmp_path).name == "encoder.safetensors"
    assert checkpoint.encoder_file(tmp_path, "teacher").name == "encoder-teacher.safetensors"
    with pytest.raises(BadInput, match="there are: student, teacher"):
        checkpoint.load_encoder(tmp_path, "critic")


def test_an_encoder_that_does_not_match_key_by_key_is_refused(tmp_path):
    run = run_folder(tmp_path)
    file = run / "encoder.safetensors"
    tensors = checkpoint.read_tensors(file)
    first = sorted(tensors)[0]
    for changed, message in [
        ({k: v for k, v in tensors.items() if k != first}, f"lacks tensor '{first}'"),
        (tensors | {"extra": torch.zeros(1)}, "unknown tensor 'extra'"),
        (tensors | {first: torch.zeros(1, 9)}, "of shape"),
        (tensors | {first: tensors[first].to(torch.complex64)}, "of torch.complex64"),
    ]:
        checkpoint._write_tensors(file, changed)
        with pytest.raises(BadInput, match=message):
            checkpoint.load_encoder(run)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"format": 2}', "{}", '{"format": "x"}', '{"format": 1}'])
def test_json_that_is_broken_or_newer_is_refused(tmp_path, content):
    run = run_folder(tmp_path)
    (run / "config.json").write_text(content)
    with pytest.raises(BadInput, match=r"config\.json"):
        checkpoint.load_encoder(run)


def test_a_configuration_can_name_only_encoders(tmp_path):
    import sys

    run = run_folder(tmp_path)
    for name in ("os.system", "sanslabel.cli", "antigravity"):
        config = json.loads((run / "config.json").read_text())
        config["networks"]["student"]["name"] = name
        (run / "config.json").write_text(json.dumps(config))
        before = set(sys.modules)
        with pytest.raises(BadInput):
            checkpoint.load_encoder(run)
        assert set(sys.modules) == before


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\xff" * 8, (2**40).to_bytes(8, "little") + b"{}"])
def test_weights_that_are_no_safetensors_are_refused(tmp_path, content):
    run = run_folder(tmp_path)
    (run / "encoder.safetensors").write_bytes(content)
    with pytest.raises(BadInput, match=r"encoder\.safetensors"):
        checkpoint.load_encoder(run)


def test_a_folder_without_an_encoder_says_so(tmp_path):
    with pytest.raises(BadInput, match="no trained encoder"):
        checkpoint.load_encoder(tmp_path)


def test_loading_keeps_the_memory_format():
    net = nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)
    other = {k: torch.randn(v.shape) for k, v in net.state_dict().items()}
    checkpoint.load_strictly_(net, other, Path("x"))
    assert net.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(net.weight, other["weight"])


def test_tensors_of_earlier_checkpoints_get_the_names_of_today():
    one = torch.zeros(1)
    known = ["queue.embeddings", "queue.cursor", "banks.0.embeddings", "tile_projector.0.weight", "part.weight"]
    old = {"queue.rows", "queue.next", "banks.0.rows", "part.0.weight", "part.weight", "else.rows"}
    new = checkpoint.with_new_names(dict.fromkeys(old, one), known)
    assert set(new) == {*known, "else.embeddings"}, "a name that today's networks have stays"
    memories = checkpoint.with_new_names({"/exp_avg/part.0.weight": one, "critic/step/part.weight": one}, known)
    assert set(memories) == {"/exp_avg/tile_projector.0.weight", "critic/step/part.weight"}


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_have_the_permissions_of_any_new_file(tmp_path, umask, mode):
    """The library that writes tensors makes files that only their owner can read."""
    before = os.umask(umask)
    try:
        checkpoint.save(tmp_path / "checkpoints", 1, parts(1), {})
        checkpoint.save_encoders(tmp_path, {"student": encoders.build("mlp", channels=1, image_size=8, hidden=[4])})
        features = FeatureCache(tmp_path)
        features.save(tmp_path / "features" / "x.safetensors", torch.zeros(2, 3), torch.arange(2))
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"networks.safetensors", "encoder.safetensors", "x.safetensors"} < {path.name for path in files}
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in files} == {path.name: oct(mode) for path in files}


def test_a_run_that_has_ended_keeps_its_newest_undamaged_checkpoint(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, step, parts(step), {}, keep=5)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "step-00000003" / "state.json").write_text("{}")
    with pytest.warns(UserWarning, match="falling back"):
        checkpoint.keep_newest(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "step-00000002"]
    checkpoint.keep_newest(tmp_path)
    assert checkpoint.newest(tmp_path) == tmp_path / "step-00000002"
    checkpoint.keep_newest(tmp_path / "nothing here")


def test_checkpoints_that_cannot_be_removed_are_warned_of(tmp_path, monkeypatch):
    for step in (1, 2):
        checkpoint.save(tmp_path, step, parts(step), {})
    monkeypatch.setattr(checkpoint, "_remove", lambda path: os.stat(path / "gone"))
    with pytest.warns(UserWarning, match="earlier checkpoints could not be removed"):
        checkpoint.keep_newest(tmp_path)
