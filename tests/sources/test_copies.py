"""Links and files with the same bytes count as one picture."""

import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sanslabel
from sanslabel.errors import BadInput
from sanslabel.evaluation.labeled_split import labeled_split
from sanslabel.sources import Data, open_source
from sanslabel.sources.folders import copies as module
from sanslabel.sources.pictures import images
from sanslabel.sources.pictures.images import ImagesFrom


def saved(root: Path, *paths: str, seed: int = 0, suffix: str = "") -> Path:
    """Saves a picture of its own at each path."""
    draw = np.random.default_rng([seed, len(list(root.rglob("*"))) if root.exists() else 0])
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (12, 10, 3), np.uint8)).save(root / path)
    return root


def names(*arguments, **options) -> list[str]:
    source = open_source(*arguments, **options)
    return [source.id(row) for row in range(len(source))]


def test_equal_files_count_once_under_the_first_name(tmp_path):
    root = saved(tmp_path, "b.png", "c.png")
    for copy in ("a.png", "d.png"):
        shutil.copy(root / "b.png", root / copy)
    source = open_source(root)
    assert names(root) == ["a.png", "c.png"]
    assert source.remarks == ("2 of 4 pictures are copies of others; each is used once.",)
    assert source.labels.shape == (2,)


def test_a_file_goes_before_its_links(tmp_path):
    root = saved(tmp_path / "data", "z/1.png", "z/2.png", "y.png")
    (root / "a.png").symlink_to("z/1.png")
    os.link(root / "z/2.png", root / "z/3.png")
    (root / "b.png").symlink_to(saved(tmp_path / "elsewhere", "4.png", seed=1) / "4.png")
    assert names(root) == ["b.png", "y.png", "z/1.png", "z/2.png"]


def test_equal_sizes_are_not_enough(tmp_path):
    draw = np.random.default_rng(0)
    for row in range(5):  # BMP: all files have the same size
        pixels = draw.integers(0, 256, (50, 50, 3), np.uint8)
        pixels[20:30] = 0  # and these have the same bytes in their middle
        Image.fromarray(pixels).save(tmp_path / f"{row}.bmp")
    assert len(open_source(tmp_path)) == 5
    assert open_source(tmp_path).remarks == ()


def test_damaged_files_are_not_copies(tmp_path):
    root = saved(tmp_path, "1.png", "2.png")
    for name in ("3.png", "4.png"):
        (root / name).write_bytes(b"damaged")
    assert len(open_source(root)) == 4


def test_labels_do_not_get_lost(tmp_path):
    root = saved(tmp_path, "cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png")
    shutil.copy(root / "dog/3.png", root / "cat/3.png")
    (root / "unlabelled").mkdir()
    shutil.copy(root / "dog/4.png", root / "dog/5.png")
    shutil.copy(root / "cat/1.png", root / "unlabelled/0.png")
    assert names(root) == ["cat/1.png", "cat/2.png", "cat/3.png", "dog/4.png"]
    remarks = " ".join(open_source(root).remarks)
    assert "3 of 7 pictures are copies of others; each is used once." in remarks
    assert "Copies with another label than the picture that is used: 1 picture (dog/3.png)." in remarks


def test_what_is_measured_is_not_trained_on(tmp_path):
    root = saved(tmp_path, "train/a/1.png", "train/a/2.png", "train/b/3.png", "test/a/4.png", "test/b/5.png")
    shutil.copy(root / "test/a/4.png", root / "train/a/0.png")
    (root / "test/b/0.png").symlink_to(root / "train/b/3.png")
    assert names(root, "train") == ["train/a/1.png", "train/a/2.png"]
    assert names(root, "test") == ["test/a/4.png", "test/b/0.png", "test/b/5.png"]
    assert names(root, "all") == names(root, "train") + names(root, "test")
    remarks = " ".join(open_source(root, "train").remarks)
    assert "2 of 7 pictures are copies of others" in remarks
    assert "Not trained on, as copies of test pictures: 2 pictures (train/a/0.png, train/b/3.png)." in remarks


def test_the_fifths_hold_no_copies_of_each_other(tmp_path):
    root = saved(tmp_path, *(f"{name}/{row}.png" for name in "ab" for row in range(10)))
    for name in "ab":
        shutil.copytree(root / name, root / f"{name}/again")
    reads = open_source(root).image
    split = labeled_split(root, 0, {"reads": reads}, None)  # pyright: ignore
    contents = [
        [(root / source.id(row)).read_bytes() for row in range(len(source))] for source in (split.train, split.test)
    ]
    assert len(contents[0]) + len(contents[1]) == 20
    assert not set(contents[0]) & set(contents[1])


def test_only_copies_are_left(tmp_path):
    root = saved(tmp_path, "1.png")
    shutil.copy(root / "1.png", root / "2.png")
    with pytest.raises(BadInput, match=r"has one image \(1 of 2 pictures is a copy of others; each is used once\)"):
        sanslabel.train(root, out=tmp_path / "run")


def test_without_copies_the_fingerprint_is_as_before(tmp_path):
    root = saved(tmp_path, "1.png", "2.png")
    before = open_source(root).fingerprint
    assert open_source(Data((root,), copies=True)).fingerprint == before
    shutil.copy(root / "2.png", root / "3.png")
    assert open_source(root).fingerprint == before
    assert open_source(Data((root,), copies=True)).fingerprint != before
    assert len(open_source(Data((root,), copies=True))) == 3


def test_members_of_archives_are_compared_too(tmp_path):
    root = saved(tmp_path / "data", "a/1.png", "a/2.png", "b/3.png")
    shutil.copy(root / "a/1.png", root / "b/4.png")
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        for name in ("a/1.png", "a/2.png", "b/3.png", "b/4.png"):
            archive.add(root / name, name)
    assert names(tmp_path / "data.tar") == names(root) == ["a/1.png", "a/2.png", "b/3.png"]
    assert open_source(tmp_path / "data.tar").remarks == open_source(root).remarks
    assert open_source(tmp_path / "data.tar").fingerprint == open_source(root).fingerprint


@pytest.fixture
def remembered(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(module, "REMEMBERED_FROM", 2)
    root = saved(tmp_path / "data", "1.png", "2.png", "3.png")
    shutil.copy(root / "1.png", root / "4.png")
    monkeypatch.setattr(module, "SETTLED", -(10**12))
    assert len(open_source(root)) == 3
    return root


def test_what_was_found_is_remembered(remembered, monkeypatch):
    def refuse(*_):
        raise AssertionError("compared again")

    monkeypatch.setattr(module, "_digest", refuse)
    assert names(remembered) == ["1.png", "2.png", "3.png"]


@pytest.mark.parametrize("change", ["content", "name", "damage", "format"])
def test_what_changed_is_compared_again(remembered, cache, monkeypatch, change):
    (memory,) = (cache / "copies").iterdir()
    if change == "content":
        content = bytearray((remembered / "4.png").read_bytes())
        content[-20] ^= 1
        (remembered / "4.png").write_bytes(content)
    elif change == "name":
        (remembered / "4.png").rename(remembered / "5.png")
    elif change == "damage":
        memory.write_bytes(b"damaged")
    else:
        monkeypatch.setattr(module, "FORMAT", module.FORMAT + 1)
    assert len(open_source(remembered)) == (4 if change == "content" else 3)


def test_a_run_on_copies_by_an_earlier_version_goes_on(tmp_path):
    """It counted every copy as a picture, and it continues so; evaluation counts each once."""
    root = saved(tmp_path / "data", *(f"{name}/{row}.png" for name in "ab" for row in range(6)))
    for name in "ab":
        shutil.copytree(root / name, root / f"{name}/again")
    options = dict(encoder="mlp", image_size=8, batch=8, precision="float32", device="cpu", workers=0, cache="none")
    new = sanslabel.train(root, out=tmp_path / "new", epochs=1, **options)
    assert new.known_plan.samples == 12
    assert new.source("train").fingerprint == new.known_plan.fingerprint
    # run.json of an earlier version does not say how copies count
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "equal_pictures", lambda store: [])
        old = sanslabel.train(root, out=tmp_path / "old", epochs=1, **options)
    file = old.path / "run.json"
    assert '"copies": false' in file.read_text()
    file.write_text(file.read_text().replace('"copies": false,', ""))
    shutil.rmtree(next((old.path / "checkpoints").iterdir()))
    old = sanslabel.resume(old.path)
    assert old.known_plan.samples == 24
    source = old.source("train")
    assert isinstance(source, ImagesFrom)
    assert source.fingerprint == old.known_plan.fingerprint
    assert torch.equal(source.labels, torch.arange(2).repeat_interleave(12))
    scores = sanslabel.evaluate(old.path, protocols=["knn"], baselines=False, cache=False)
    assert {(score.n_train, score.n_test) for score in scores if score.labels_per_class is None} == {(9, 3)}
