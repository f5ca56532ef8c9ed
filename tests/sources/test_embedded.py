"""The sets that ship with the package, and what can be opened by name."""

import importlib
import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import sanslabel
from sanslabel.batch import Facts
from sanslabel.errors import BadInput
from sanslabel.sources import Arrays, Request, open_source, splits
from sanslabel.sources.formats import embedded


def test_fashion_is_the_balanced_subset_it_says():
    train, test = open_source("fashion"), open_source("fashion", "test")
    assert train.facts(None) == Facts.of_images(samples=8000, channels=1, height=28, width=28, classes=10)
    assert len(test) == 2000
    assert torch.bincount(train.labels).tolist() == [800] * 10
    assert torch.bincount(test.labels).tolist() == [200] * 10
    assert train.classes == test.classes == open_source("fashion", "all").classes
    assert train.classes[:2] == ("T-shirt/top", "trouser")
    assert splits("fashion") == ("train", "test")
    # What published numbers on this set refer to.
    assert train.fingerprint == "c3e5b0aaccef7a56eacebf6b1cea61fae5d9b7a789ebf7f4445190e545f398e8"
    mean, std = train.standardization()
    np.testing.assert_allclose([*mean, *std], [0.286, 0.353], atol=0.01)  # of all 60,000


def test_digits_are_scikit_learns():
    images, labels = load_digits(return_X_y=True)
    expected = {
        (np.rint(image * 255 / 16).astype(np.uint8).tobytes(), int(label))
        for image, label in zip(images, labels, strict=True)
    }
    train, test = open_source("digits"), open_source("digits", "test")
    splits_of = [
        {(image.numpy().tobytes(), int(label)) for image, label in zip(chosen.images, chosen.labels, strict=True)}
        for chosen in (train, test)
        if isinstance(chosen, Arrays)
    ]
    assert splits_of[0] | splits_of[1] == expected
    assert not splits_of[0] & splits_of[1]
    assert (len(train), len(test)) == (1438, 359)
    shares = torch.bincount(test.labels) / (torch.bincount(test.labels) + torch.bincount(train.labels))
    assert (shares - 0.2).abs().max() < 0.004


def test_all_is_both_splits_and_ids_tell_them_apart():
    everything, train, test = (open_source("digits", split) for split in ("all", "train", "test"))
    assert isinstance(everything, Arrays)
    assert isinstance(test, Arrays)
    assert len(everything) == len(train) + len(test)
    assert everything.id(3) == train.id(3) == "train/3"
    assert everything.id(len(train) + 5) == test.id(5) == "test/5"
    assert torch.equal(everything.images[len(train) :], test.images)


def test_a_subset_keeps_names_and_rows_together():
    everything = open_source("digits", "all")
    chosen = everything.subset(torch.tensor([5, 1500, 2]))
    assert [chosen.id(row) for row in range(len(chosen))] == ["train/5", everything.id(1500), "train/2"]
    assert torch.equal(chosen.labels, everything.labels[[5, 1500, 2]])
    assert torch.equal(
        chosen.load(Request(torch.tensor([1]))).images.pixels,
        everything.load(Request(torch.tensor([1500]))).images.pixels,
    )
    assert chosen.fingerprint != everything.fingerprint


def test_fashion_mnist_is_found_or_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "_FASHION_MNIST", tmp_path / "set")
    with pytest.raises(BadInput, match="apt-get install dataset-fashion-mnist"):
        open_source("fashion-mnist")
    (tmp_path / "set").mkdir()
    header = bytes([0, 0, 8, 3]) + np.array([2, 3, 4], ">u4").tobytes()
    (tmp_path / "set" / "t10k-images-idx3-ubyte").write_bytes(header + bytes(24))
    (tmp_path / "set" / "t10k-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 9, 0]))
    source = open_source("fashion-mnist", "test")
    assert source.name == "fashion-mnist"
    assert [source.classes[label] for label in source.labels] == ["ankle boot", "T-shirt/top"]


def test_names_and_paths_that_do_not_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"fashon: .*did you mean fashion\? There are: fashion, digits, fashion-mnist"):
        open_source("fashon")
    with pytest.raises(BadInput, match="no such file or folder"):
        splits(tmp_path / "missing")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(BadInput, match=r"notes.txt is neither a folder nor an .npy, .npz or .tar file"):
        open_source("notes.txt")
    with pytest.raises(BadInput, match="digits: the run needs 4 channels, and these images have 1; choose data with 4"):
        open_source("digits", channels=4)


def test_a_folder_called_like_an_embedded_set_is_meant_by_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert len(open_source("digits")) == 1438
    with pytest.raises(BadInput, match="holds no images"):
        open_source("./digits")


def test_arrays_open_without_pillow(monkeypatch):
    monkeypatch.setattr(sanslabel, "sources", sanslabel.sources)  # so that both are put back
    for name in [name for name in sys.modules if name.startswith("sanslabel.sources")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "PIL", None)  # whoever imports it gets an ImportError
    sources = importlib.import_module("sanslabel.sources")
    assert len(sources.open_source("digits")) == 1438
    with pytest.raises(ImportError):
        importlib.import_module("sanslabel.sources.pictures.images")


@pytest.mark.parametrize("path", ["photo.jpg", "photos/cats", "../photos", "runs/photo.PNG"])
def test_a_missing_path_is_no_misspelled_set(path):
    with pytest.raises(BadInput, match=r"no such file or folder; check the spelling") as refused:
        open_source(path)
    assert "spiral" not in str(refused.value)


def test_a_single_picture_is_refused_as_one(tmp_path):
    (tmp_path / "photo.JPG").write_bytes(b"x")
    with pytest.raises(BadInput, match=r"photo.JPG is a single picture; give the folder that its pictures lie in"):
        open_source(tmp_path / "photo.JPG")
    with pytest.raises(BadInput, match=r"no set of that name; did you mean fashion"):
        open_source("fashon")
