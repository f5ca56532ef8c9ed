"""NumPy's files: shapes, types, labels, and what is refused."""

import re

import numpy as np
import pytest
import torch

from sanslabel.errors import BadInput
from sanslabel.inputs import ImageSpec, SpectrogramSpec
from sanslabel.sources import Arrays, Request, open_source, splits

RANDOM = np.random.default_rng(0)


def opened(path, split="train") -> Arrays:
    source = open_source(path, split)
    assert isinstance(source, Arrays)
    return source


def saved(folder, **arrays):
    np.savez(folder / "set.npz", **arrays)
    return folder / "set.npz"


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
def test_the_channel_axis_is_the_shorter_one(tmp_path, channels):
    images = RANDOM.integers(0, 256, (5, channels, 16, 18), np.uint8)
    np.save(tmp_path / "first.npy", images)
    np.save(tmp_path / "last.npy", images.transpose(0, 2, 3, 1))
    for name in ("first", "last"):
        source = opened(tmp_path / f"{name}.npy")
        np.testing.assert_array_equal(source.images.numpy(), images)
        assert (source.name, source.channels, source.height, source.width) == (name, channels, 16, 18)


def test_grey_arrays_have_three_axes(tmp_path):
    images = RANDOM.integers(0, 256, (5, 7, 9), np.uint8)
    np.save(tmp_path / "grey.npy", np.asfortranarray(images))
    source = opened(tmp_path / "grey.npy")
    np.testing.assert_array_equal(source.images[:, 0].numpy(), images)
    assert source.classes == ()
    assert source.labels.tolist() == [-1] * 5
    assert splits(tmp_path / "grey.npy") == ("train",)
    assert len(opened(tmp_path / "grey.npy", "all")) == 5
    with pytest.raises(BadInput, match=r"grey.npy has no test split"):
        open_source(tmp_path / "grey.npy", "test")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ">f8"])
def test_floats_stay_floats(tmp_path, dtype):
    images = RANDOM.random((5, 7, 9)).astype(dtype)
    np.save(tmp_path / "x.npy", images)
    source = opened(tmp_path / "x.npy")
    assert source.images.dtype == torch.float32
    np.testing.assert_array_equal(source.images[:, 0].numpy(), images.astype(np.float32))


def test_labels_become_positions_among_all_values(tmp_path):
    images = np.zeros((4, 8, 8), np.uint8)
    path = saved(
        tmp_path, images=images, labels=np.array([30, -1, 7, 30]), test_images=images[:2], test_labels=np.array([9, 30])
    )
    train, test = opened(path), opened(path, "test")
    assert splits(path) == ("train", "test")
    assert train.classes == test.classes == ("7", "9", "30")
    assert train.labels.tolist() == [2, -1, 0, 2]
    assert test.labels.tolist() == [1, 2]
    assert opened(path, "all").labels.tolist() == [2, -1, 0, 2, 1, 2]
    assert train.facts(None).classes == 3
    assert train.facts(16).image == ImageSpec(channels=1, height=16, width=16)


def test_class_names_are_kept(tmp_path):
    path = saved(
        tmp_path, images=np.zeros((2, 8, 8), np.uint8), labels=np.uint8([1, 1]), classes=np.array(["cat", "dog"])
    )
    source = opened(path)
    assert [source.classes[label] for label in source.labels] == ["dog", "dog"]


def test_the_fingerprint_follows_every_pixel_and_label(tmp_path):
    images, labels = np.zeros((2, 8, 8), np.uint8), np.array([0, 1])
    prints = set()
    for change in ("none", "pixel", "label"):
        images[1, 7, 7] = change == "pixel"
        labels[1] = change != "label"
        prints.add(opened(saved(tmp_path, images=images, labels=labels)).fingerprint)
    assert len(prints) == 3
    assert opened(saved(tmp_path, images=images, labels=labels)).fingerprint in prints


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((4, 8), np.uint8)}, r"shape \(N, H, W\).*not \(4, 8\)"),
        ({"images": np.zeros((4, 8, 8), np.int64)}, "must be uint8, or float in .*not int64"),
        ({"images": np.zeros((4, 8, 8), complex)}, "not complex128"),
        ({"images": np.full((4, 8, 8), 255.0)}, r"must lie in \[0, 1\], not from 255 to 255"),
        ({"images": np.full((4, 8, 8), np.nan)}, r"must lie in \[0, 1\]"),
        ({"images": np.zeros((0, 8, 8), np.uint8)}, "holds no pixels"),
        ({"images": np.zeros((4, 0, 8), np.uint8)}, "holds no pixels"),
        ({"pictures": np.zeros((4, 8, 8), np.uint8)}, r"no array called images \(it has: pictures\)"),
        ({"images": np.zeros((4, 8, 8), np.uint8), "labels": np.arange(3)}, "3 labels for 4 images"),
        ({"images": np.zeros((4, 8, 8), np.uint8), "labels": np.zeros(4)}, "labels must be integers .*not float64"),
        ({"images": np.zeros((4, 8, 8), np.uint8), "labels": np.zeros((4, 2), int)}, r"labels must .*\(4, 2\)"),
        ({"images": np.zeros((4, 8, 8), np.uint8), "labels": np.full(4, -2)}, "labels must be 0 or more"),
        (
            {"images": np.zeros((4, 8, 8), np.uint8), "labels": np.full(4, 2), "classes": np.array(["a", "b"])},
            "labels must be from 0 to 1",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path, arrays, message):
    path = saved(tmp_path, **arrays)
    with pytest.raises(BadInput, match=re.escape(str(path)) + f".*{message}"):
        open_source(path)


def test_splits_that_do_not_fit_together_open_one_by_one(tmp_path):
    path = saved(tmp_path, images=np.zeros((4, 8, 8), np.uint8), test_images=np.zeros((2, 9, 9), np.uint8))
    assert len(opened(path, "test")) == 2
    with pytest.raises(BadInput, match="differ in shape or type"):
        open_source(path, "all")


def test_damaged_files_and_pickles_are_refused(tmp_path):
    good = saved(tmp_path, images=np.zeros((40, 8, 8), np.uint8)).read_bytes()
    np.save(tmp_path / "good.npy", np.zeros((40, 8, 8), np.uint8))
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    npy = (tmp_path / "good.npy").read_bytes()
    huge = npy.replace(b"(40, 8, 8), ", b"(9999999999999999, 8, 8), ")
    contents = {
        "empty.npz": b"",
        "text.npz": b"not an archive",
        "short.npz": good[: len(good) // 2],
        "flipped.npz": good[:200] + bytes([good[200] ^ 255]) + good[201:],
        "array.npz": npy,
        "empty.npy": b"",
        "text.npy": b"not an array",
        "short.npy": npy[:-1],
        "archive.npy": good,
        "huge.npy": huge,
        "objects.npy": (tmp_path / "objects.npy").read_bytes(),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadInput, match=name):
            open_source(tmp_path / name)


def test_standardization_is_the_mean_and_deviation_of_the_pixels(tmp_path):
    images = RANDOM.integers(0, 256, (50, 3, 16, 16), np.uint8)
    images[:, 2] = 51
    np.save(tmp_path / "bytes.npy", images)
    np.save(tmp_path / "floats.npy", images.astype(np.float32) / 255)
    for name in ("bytes", "floats"):
        mean, std = open_source(tmp_path / f"{name}.npy").standardization()
        np.testing.assert_allclose(mean, (images / 255).mean((0, 2, 3)), rtol=1e-6)
        np.testing.assert_allclose(std[:2], (images / 255).std((0, 2, 3))[:2], rtol=1e-6)
        assert std[2] == pytest.approx(1 / 255)
    few = open_source(tmp_path / "bytes.npy").standardization(limit=5)
    assert few == open_source(tmp_path / "bytes.npy").standardization(limit=5)
    assert few != open_source(tmp_path / "bytes.npy").standardization()


SOUNDS = dict(images=np.zeros((4, 8, 8), np.uint8), waves=np.zeros((4, 50), np.int16), rate=np.array(8000))


def test_sounds_lie_beside_images(tmp_path):
    waves = RANDOM.integers(-(2**15), 2**15, (6, 2, 40), np.int16)
    images = RANDOM.integers(0, 256, (6, 8, 8), np.uint8)
    test = dict(test_images=images[:3], test_waves=waves[:3])
    path = saved(tmp_path, images=images, waves=waves, rate=16000, labels=np.arange(6) % 2, **test)
    source = opened(path)
    assert source.inputs["audio"] == SpectrogramSpec(mels=64, frames=96, rate=16000)
    np.testing.assert_array_equal(source.signals["audio"].waves.numpy(), waves)
    loaded = source.load(Request(torch.tensor([4, 1])))
    np.testing.assert_array_equal(loaded.signals["audio"].waves.numpy(), waves[[4, 1]])
    assert len(opened(path, "all")) == 9
    assert opened(path, "test").signals["audio"].waves.shape == (3, 2, 40)
    other = opened(saved(tmp_path, images=images, waves=np.zeros_like(waves), rate=16000, labels=np.arange(6) % 2))
    assert other.fingerprint != source.fingerprint
    floats = opened(saved(tmp_path, images=images, waves=waves[:, 0] / 2.0**15, rate=np.int32(8000)))
    assert floats.signals["audio"].waves.dtype == torch.float32
    assert floats.signals["audio"].waves.shape == (6, 1, 40)
    assert set(opened(saved(tmp_path, images=images)).inputs) == {"image"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"waves": np.zeros((3, 50), np.int16)}, "3 sounds (shape (3, 1, 50)) for 4 images; give each image a sound"),
        ({"waves": np.zeros((4, 0), np.int16)}, "4 sounds (shape (4, 1, 0)) for 4 images"),
        ({"waves": np.zeros(4, np.int16)}, "array waves: waves must have shape (N, T) or (N, C, T), not (4,)"),
        ({"waves": np.zeros((4, 50), np.int32)}, "array waves: waves must be int16, or float in [-1, 1], not int32"),
        ({"waves": np.full((4, 50), 1.5)}, "array waves: float waves must lie in [-1, 1]; divide them"),
        ({"waves": np.full((4, 50), np.nan)}, "array waves: float waves must lie in [-1, 1]; divide them"),
        ({"rate": None}, "does not say how many samples they have in a second; add the array rate"),
        ({"rate": np.array([8000, 8000])}, "add the array rate, a whole number from 1,000 to 384,000"),
        ({"rate": np.array(0)}, "add the array rate, a whole number from 1,000 to 384,000"),
        ({"rate": np.array(8000.0)}, "add the array rate, a whole number from 1,000 to 384,000"),
        ({"test_images": np.zeros((2, 8, 8), np.uint8)}, "only the train split has waves; give both splits sounds"),
    ],
)
def test_sounds_that_do_not_fit_are_refused(tmp_path, changes, reason):
    arrays = {name: array for name, array in (SOUNDS | changes).items() if array is not None}
    with pytest.raises(BadInput, match=re.escape(reason)):
        open_source(saved(tmp_path, **arrays))


def test_splits_with_other_sounds_are_opened_one_at_a_time(tmp_path):
    test = dict(test_images=np.zeros((2, 8, 8), np.uint8), test_waves=np.zeros((2, 60), np.int16))
    path = saved(tmp_path, **SOUNDS, **test)
    assert len(opened(path)) == 4
    with pytest.raises(BadInput, match="training and test sounds differ in shape or type; open one split at a time"):
        open_source(path, "all")
