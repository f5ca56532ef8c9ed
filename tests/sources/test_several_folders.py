"""Several folders of pictures that are read as one set."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sanslabel
from sanslabel.errors import BadInput
from sanslabel.sources import open_source, splits


def saved(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        draw = np.random.default_rng([*f"{root.name}/{name}".encode()])
        Image.fromarray(draw.integers(0, 256, (8, 8, 3), np.uint8)).save(root / name)
    return root


@pytest.fixture
def folders(tmp_path) -> list[Path]:
    a = saved(tmp_path / "x/photos", "cat/1.png", "dog/1.png", "dog/2.png")
    b = saved(tmp_path / "y/photos", "train/cat/1.png", "train/cow/1.png", "test/cat/2.png")
    return [a, b]


def names(source) -> list[str]:
    return [source.id(row) for row in range(len(source))]


def test_names_are_unique_and_classes_are_joined_by_name(folders):
    assert splits(folders) == ("train", "test")
    train, test = open_source(folders), open_source(folders, "test")
    assert train.name == "photos+photos"
    assert names(train) == [
        *(f"x/photos/{name}" for name in ("cat/1.png", "dog/1.png", "dog/2.png")),
        *(f"y/photos/train/{name}" for name in ("cat/1.png", "cow/1.png")),
    ]
    assert names(test) == ["y/photos/test/cat/2.png"]
    assert train.classes == test.classes == ("cat", "cow", "dog")
    assert train.labels.tolist() == [0, 2, 2, 0, 1]
    assert test.labels.tolist() == [0]


def test_the_fingerprint_follows_the_folders_and_not_their_order_or_place(folders, tmp_path):
    fingerprint = open_source(folders).fingerprint
    assert open_source([str(folders[1]), str(folders[0]) + "/"]).fingerprint == fingerprint
    assert open_source([folders[0]]).fingerprint == open_source(folders[0]).fingerprint != fingerprint
    shutil.copytree(tmp_path / "x", tmp_path / "moved/x")
    shutil.copytree(tmp_path / "y", tmp_path / "moved/y")
    assert open_source([tmp_path / "moved/x/photos", tmp_path / "moved/y/photos"]).fingerprint == fingerprint
    saved(folders[1], "train/cow/2.png")
    assert open_source(folders).fingerprint != fingerprint


def test_copies_in_two_folders_count_once(folders):
    shutil.copy(folders[1] / "test/cat/2.png", folders[0] / "cat/2.png")
    assert "x/photos/cat/2.png" not in names(open_source(folders))
    assert "1 of 7 pictures is a copy of others; each is used once." in open_source(folders).remarks


def test_what_does_not_go_together_is_refused_in_a_sentence(folders, tmp_path):
    with pytest.raises(BadInput, match=r"digits cannot be read together with .*; only folders of images can be"):
        open_source([folders[0], "digits"])
    with pytest.raises(BadInput, match=r"cat lies in .*photos; name only one of them"):
        open_source([folders[0] / "cat", folders[0]])
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"empty holds no images; leave it out"):
        open_source([folders[0], tmp_path / "empty"])
    with pytest.raises(BadInput, match="no such file or folder"):
        open_source([folders[0], tmp_path / "missing"])


def test_a_run_is_trained_evaluated_and_resumed_on_them(tmp_path):
    a = saved(tmp_path / "a", *(f"{name}/{row}.png" for name in ("cat", "dog") for row in range(6)))
    b = saved(tmp_path / "b", *(f"{name}/{row}.png" for name in ("cat", "dog") for row in range(6)))
    options = dict(encoder="mlp", image_size=8, batch=8, epochs=1, device="cpu", workers=0, cache="none")
    run = sanslabel.train([a, b], out=tmp_path / "run", **options)
    assert json.loads((run.path / "run.json").read_text())["data"] == [str(a), str(b)]
    assert run.known_plan.data_name == "a + b"
    scores = sanslabel.evaluate(run.path, protocols=["knn"], baselines=False, cache=False)
    assert scores[0].n_test == 5
    sanslabel.resume(run.path)
    sanslabel.resume(run.path, data=[b, a])
    with pytest.raises(BadInput, match="is not the data"):
        sanslabel.resume(run.path, data=a)
