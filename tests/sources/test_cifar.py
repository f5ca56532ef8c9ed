"""CIFAR's binary versions."""

import numpy as np
import pytest

from sanslabel.errors import BadInput
from sanslabel.sources import Arrays, open_source, splits

RANDOM = np.random.default_rng(0)


def written(path, labels: list[list[int]]) -> np.ndarray:
    """The images of the records written, each with a row of label bytes."""
    pixels = RANDOM.integers(0, 256, (len(labels), 3072), np.uint8)
    path.write_bytes(np.concatenate([np.uint8(labels), pixels], axis=1).tobytes())
    return pixels.reshape(-1, 3, 32, 32)


def test_cifar_10(tmp_path):
    first = written(tmp_path / "data_batch_1.bin", [[3], [0]])
    second = written(tmp_path / "data_batch_2.bin", [[1]])
    test = written(tmp_path / "test_batch.bin", [[2], [2]])
    (tmp_path / "batches.meta.txt").write_text("airplane\nautomobile\nbird\ncat\n\n")
    source = open_source(tmp_path)
    assert isinstance(source, Arrays)
    np.testing.assert_array_equal(source.images.numpy(), np.concatenate([first, second]))
    assert [source.classes[label] for label in source.labels] == ["cat", "airplane", "automobile"]
    held_out = open_source(tmp_path, "test")
    assert isinstance(held_out, Arrays)
    np.testing.assert_array_equal(held_out.images.numpy(), test)
    assert held_out.labels.tolist() == [2, 2]
    assert splits(tmp_path) == ("train", "test")


def test_cifar_100_has_its_fine_labels(tmp_path):
    images = written(tmp_path / "train.bin", [[4, 0], [1, 99]])
    written(tmp_path / "test.bin", [[0, 50]])
    source = open_source(tmp_path)
    assert isinstance(source, Arrays)
    np.testing.assert_array_equal(source.images.numpy(), images)
    assert source.classes == ("0", "50", "99")
    assert source.labels.tolist() == [0, 2]
    assert open_source(tmp_path, "test").labels.tolist() == [1]


def test_damaged_files_are_refused_by_name(tmp_path):
    written(tmp_path / "data_batch_1.bin", [[0]])
    (tmp_path / "data_batch_2.bin").write_bytes(bytes(3072))
    with pytest.raises(BadInput, match=r"data_batch_2.bin has 3,072 bytes, no multiple of CIFAR's record of 3,073"):
        open_source(tmp_path)
    (tmp_path / "data_batch_2.bin").write_bytes(b"")
    with pytest.raises(BadInput, match=r"data_batch_2.bin has 0 bytes"):
        splits(tmp_path)
    written(tmp_path / "data_batch_2.bin", [[7]])
    (tmp_path / "batches.meta.txt").write_text("airplane\nautomobile\n")
    with pytest.raises(BadInput, match=r"data_batch_2.bin: labels must be from 0 to 1"):
        open_source(tmp_path)
    hundred = tmp_path / "hundred"
    hundred.mkdir()
    (hundred / "train.bin").write_bytes(bytes(3073))
    with pytest.raises(BadInput, match=r"train.bin has 3,073 bytes, no multiple of CIFAR's record of 3,074"):
        open_source(hundred)
