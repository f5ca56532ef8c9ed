"""The newest checkpoint cut off or with one bit changed, anywhere: found every time, and the one before it used."""

import random
import shutil
import warnings
from pathlib import Path

import pytest
import torch

import sanslabel
from sanslabel import checkpoint
from sanslabel.training import session

FILES = ("networks.safetensors", "optimizers.safetensors", "state.json", "manifest.json")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """With two checkpoints, as if it was killed before it removed the earlier one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "SAVE_AFTER", 0.0)
        patch.setattr(checkpoint, "keep_newest", lambda folder: None)
        options = dict(data="digits", encoder={"name": "mlp", "hidden": 16}, epochs=1, batch=512)
        return sanslabel.train(out=tmp_path_factory.mktemp("runs") / "run", **options).path


def places() -> list[tuple[str, str, float]]:
    """Five truncations and five changed bits of each file: both ends, and between them."""
    draws = random.Random(0)
    shares = [0.0, 0.9999999, *(draws.random() for _ in range(3))]
    return [(harm, name, share) for harm in ("cut", "flip") for name in FILES for share in shares]


@pytest.mark.parametrize(("harm", "name", "share"), places())
def test_it_is_found_told_of_once_and_the_one_before_is_used(run, tmp_path, harm, name, share):
    folder = tmp_path / "checkpoints"
    shutil.copytree(run / "checkpoints", folder)
    newest, before = checkpoint.checkpoints(folder)
    file = newest / name
    content = bytearray(file.read_bytes())
    place = int(share * len(content))
    if harm == "cut":
        del content[place:]
    else:
        content[place] ^= 1 << random.Random(share).randrange(8)
    file.write_bytes(content)
    with pytest.warns(UserWarning, match="falling back to the checkpoint before it") as said:
        assert checkpoint.newest(folder) == before
    assert len(said) == 1
    # A hash that is not a file's: either of the two may be what was changed.
    named = str(said[0].message)
    assert str(newest / name) in named or (name == "manifest.json" and "by its manifest.json" in named)


def test_no_byte_of_a_manifest_can_change(tmp_path):
    """Format, white space, names, sizes and hashes: all of them."""
    folder = tmp_path / "checkpoints"
    before, newest = (checkpoint.save(folder, step, {"networks": {"a": torch.ones(1)}}, {}) for step in (1, 2))
    content = (newest / "manifest.json").read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for place in range(len(content)):
            harmed = bytearray(content)
            harmed[place] ^= 1 << random.Random(place).randrange(8)
            (newest / "manifest.json").write_bytes(harmed)
            assert checkpoint.newest(folder) == before, place
    (newest / "manifest.json").write_bytes(content)
    assert checkpoint.newest(folder) == newest


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_gone_is_found(run, tmp_path, name):
    folder = tmp_path / "checkpoints"
    shutil.copytree(run / "checkpoints", folder)
    newest, before = checkpoint.checkpoints(folder)
    (newest / name).unlink()
    with pytest.warns(UserWarning, match=f"{name} is"):
        assert checkpoint.newest(folder) == before


def test_a_run_goes_on_from_the_one_before_to_the_same_end(run, tmp_path, state_of):
    again = tmp_path / "run"
    shutil.copytree(run, again)
    newest = checkpoint.newest(again / "checkpoints")
    content = bytearray((newest / "optimizers.safetensors").read_bytes())
    content[-1] ^= 1
    (newest / "optimizers.safetensors").write_bytes(content)
    with pytest.warns(UserWarning, match=r"optimizers\.safetensors is not what was written") as said:
        sanslabel.resume(again)
    assert len(said) == 1
    assert state_of(again) == state_of(run)
