"""IDX files, MNIST's format."""

import gzip

import numpy as np
import pytest

from sanslabel.errors import BadInput
from sanslabel.sources import Arrays, open_source, splits

RANDOM = np.random.default_rng(0)
IMAGES = {"train": RANDOM.integers(0, 256, (6, 5, 4), np.uint8), "t10k": RANDOM.integers(0, 256, (3, 5, 4), np.uint8)}
LABELS = {"train": np.uint8([2, 0, 1, 2, 0, 1]), "t10k": np.uint8([1, 1, 0])}


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def written(folder, mark="-", ending="", pack=lambda content: content):
    for prefix in IMAGES:
        (folder / f"{prefix}-images{mark}idx3-ubyte{ending}").write_bytes(pack(idx(IMAGES[prefix])))
        (folder / f"{prefix}-labels{mark}idx1-ubyte{ending}").write_bytes(pack(idx(LABELS[prefix])))
    return folder


@pytest.mark.parametrize("mark", ["-", "."])
@pytest.mark.parametrize(
    ("ending", "pack"), [("", bytes), (".gz", gzip.compress), (".gz", bytes)], ids=["plain", "gzip", "unpacked"]
)
def test_round_trip(tmp_path, mark, ending, pack):
    folder = written(tmp_path, mark, ending, pack)
    assert splits(folder) == ("train", "test")
    for split, prefix in (("train", "train"), ("test", "t10k")):
        source = open_source(folder, split)
        assert isinstance(source, Arrays)
        np.testing.assert_array_equal(source.images[:, 0].numpy(), IMAGES[prefix])
        assert source.labels.tolist() == LABELS[prefix].tolist()
        assert source.classes == ("0", "1", "2")
        assert source.name == tmp_path.name
    assert open_source(folder, "all").labels.tolist() == [*LABELS["train"], *LABELS["t10k"]]


def test_labels_and_splits_are_optional(tmp_path):
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(IMAGES["t10k"]))
    source = open_source(tmp_path, "test")
    assert source.labels.tolist() == [-1, -1, -1]
    assert source.classes == ()
    assert open_source(tmp_path, "all").id(2) == "test/2"
    with pytest.raises(BadInput, match="has no train split; it has: test"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("images-idx3", b"", "begins with , not 00000803"),
        ("images-idx3", idx(LABELS["train"]), "begins with 00000801, not 00000803"),
        ("labels-idx1", b"\x89PNG\r\n", "begins with 89504e47, not 00000801"),
        ("images-idx3", idx(IMAGES["train"])[:-1], "announces 120 bytes and has 119"),
        ("images-idx3", idx(IMAGES["train"]) + b"x", "announces 120 bytes and has 121"),
        ("images-idx3", idx(IMAGES["train"])[:7], "announces 0 bytes and has 0: it is cut off"),
        ("images-idx3", b"\0\0\x08\x03" + b"\xff" * 12, "announces 79,228,162,458,924,105,385,300,197,375 bytes"),
        ("images-idx3", gzip.compress(idx(IMAGES["train"]))[:-9], "cannot be read"),
        ("images-idx3", b"\x1f\x8b" + b"\xff" * 40, "cannot be read"),
        ("images-idx3", idx(np.zeros((0, 5, 4), np.uint8)), "6 labels for 0 images"),
        ("labels-idx1", idx(LABELS["t10k"]), "3 labels for 6 images"),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path, file, content, message):
    written(tmp_path)
    (tmp_path / f"train-{file}-ubyte").write_bytes(content)
    with pytest.raises(BadInput, match=f"train-.*-ubyte.*{message}"):
        open_source(tmp_path)
