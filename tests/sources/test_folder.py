"""Folders of image files as a source."""

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from sanslabel.errors import BadInput
from sanslabel.inputs import ImageSpec
from sanslabel.sources import Request, open_source, splits
from sanslabel.sources.pictures.images import ImagesFrom

RANDOM = np.random.default_rng(0)


def saved(root, *paths, size=(12, 10), grey=False):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shape = size[::-1] if grey else (*size[::-1], 3)
        Image.fromarray(RANDOM.integers(0, 256, shape, np.uint8)).save(root / path)
    return root


def opened(*arguments, **options) -> ImagesFrom:
    source = open_source(*arguments, **options)
    assert isinstance(source, ImagesFrom)
    return source


def test_sub_folders_are_classes(tmp_path):
    source = opened(saved(tmp_path / "pets", "dog/1.png", "cat/b/2.png", "cat/1.png"))
    assert source.name == "pets"
    assert source.classes == ("cat", "dog")
    assert [source.id(row) for row in range(3)] == ["cat/1.png", "cat/b/2.png", "dog/1.png"]
    assert source.labels.tolist() == [0, 0, 1]
    assert source.facts(None).classes == 2
    assert splits(tmp_path / "pets") == ("train",)
    assert len(opened(tmp_path / "pets", "all")) == 3
    with pytest.raises(BadInput, match="has no test split"):
        open_source(tmp_path / "pets", "test")


@pytest.mark.parametrize("paths", [("1.png", "a/2.png", "b/3.png"), ("a/1.png", "a/2.png"), ("1.png",)])
def test_other_folders_have_no_labels(tmp_path, paths):
    source = opened(saved(tmp_path, *paths))
    assert source.classes == ()
    assert source.labels.tolist() == [-1] * len(paths)


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_a_divided_folder(tmp_path, held_out):
    root = saved(tmp_path, "train/dog/1.png", "train/cat/2.png", f"{held_out}/dog/3.png", "other/4.png")
    assert splits(root) == ("train", "test")
    train, test, everything = (opened(root, split) for split in ("train", "test", "all"))
    assert [train.id(0), train.id(1), test.id(0)] == ["train/cat/2.png", "train/dog/1.png", f"{held_out}/dog/3.png"]
    assert train.classes == test.classes == ("cat", "dog")  # though the test split has dogs only
    assert test.labels.tolist() == [1]
    assert everything.labels.tolist() == [0, 1, 1]


def test_test_goes_before_val_and_may_be_without_labels(tmp_path):
    root = saved(tmp_path, "train/dog/1.png", "train/cat/2.png", "val/dog/3.png", "test/4.png")
    test = opened(root, "test")
    assert test.id(0) == "test/4.png"
    assert test.classes == ()
    everything = opened(root, "all")
    assert everything.labels.tolist() == [0, 1, -1]
    assert everything.classes == ("cat", "dog")


def test_grey_or_color_and_the_size_are_told_by_the_files(tmp_path):
    grey = opened(saved(tmp_path / "g", "1.png", "2.png", size=(28, 30), grey=True))
    assert (grey.channels, grey.height, grey.width) == (1, 28, 28)
    Image.new("RGB", (100, 200), (7, 7, 7)).save(tmp_path / "g" / "3.png")  # RGB, but without color
    assert opened(tmp_path / "g").channels == 1
    saved(tmp_path / "g", "4.png", size=(100, 200))
    color = opened(tmp_path / "g")
    assert color.channels == 3
    assert color.height == 64  # the median of 28, 28, 100, 100, and a multiple of 8
    assert color.load(Request(torch.tensor([0]))).images.pixels.shape == (1, 3, 30, 28)
    assert opened(saved(tmp_path / "large", "1.png", size=(600, 500))).height == 224
    assert opened(saved(tmp_path / "tiny", "1.png", size=(1, 1))).height == 1
    assert opened(tmp_path / "g", channels=1, image_size=96).facts(None).image == ImageSpec(
        channels=1, height=96, width=96
    )
    assert opened(tmp_path / "g").facts(48).image == ImageSpec(channels=3, height=48, width=48)
    with pytest.raises(BadInput, match=r"needs 4 channels, and these images have 3; .*\(N, 4, H, W\)"):
        open_source(tmp_path / "g", channels=4)


def test_images_of_unequal_sizes_share_a_canvas(tmp_path):
    saved(tmp_path, "1.png", size=(12, 10))
    saved(tmp_path, "2.png", size=(8, 20))
    saved(tmp_path, "3.png", size=(300, 200))
    source = opened(tmp_path, image_size=28)
    loaded = source.load(Request(torch.tensor([2, 0, 1])))
    pixels, sizes = loaded.images
    assert source.side == 32
    assert sizes is not None
    assert sizes.tolist() == [[32, 48], [10, 12], [20, 8]]
    assert pixels.shape == (3, 3, 32, 48)
    assert pixels.dtype == torch.uint8
    with Image.open(tmp_path / "1.png") as image:
        np.testing.assert_array_equal(pixels[1, :, :10, :12].numpy(), np.asarray(image).transpose(2, 0, 1))
    assert pixels[1].sum() == pixels[1, :, :10, :12].sum()
    assert loaded.index.tolist() == [2, 0, 1]
    assert loaded.replaced == []
    assert source.load(Request(torch.tensor([0, 0]))).images.sizes is None


def test_standardization_leaves_the_padding_out(tmp_path):
    saved(tmp_path, "1.png", size=(12, 10))
    saved(tmp_path, "2.png", size=(8, 20))
    pixels = []
    for name in ("1.png", "2.png"):
        with Image.open(tmp_path / name) as image:
            pixels.append(np.asarray(image).reshape(-1, 3) / 255)
    mean, std = opened(tmp_path).standardization()
    np.testing.assert_allclose(mean, np.concatenate(pixels).mean(0), rtol=1e-9)
    np.testing.assert_allclose(std, np.concatenate(pixels).std(0), rtol=1e-9)


def test_the_fingerprint_follows_names_sizes_and_content_and_not_times(tmp_path):
    root = saved(tmp_path / "a", "1.png", "2.png")
    prints = [opened(root).fingerprint]
    os.utime(root / "1.png", ns=(1, 1))
    assert opened(root).fingerprint == prints[0]
    shutil.copytree(root, tmp_path / "copy")
    assert opened(tmp_path / "copy").fingerprint == prints[0]
    content = bytearray((root / "1.png").read_bytes())
    content[-20] ^= 1
    (root / "1.png").write_bytes(content)
    prints.append(opened(root).fingerprint)
    (root / "1.png").write_bytes(content + b"\0")
    prints.append(opened(root).fingerprint)
    (root / "2.png").rename(root / "3.png")
    prints.append(opened(root).fingerprint)
    prints.append(opened(root).subset(torch.tensor([0])).fingerprint)
    assert len(set(prints)) == 5


def test_a_bad_image_is_replaced_by_the_next_good_one(tmp_path):
    root = saved(tmp_path, *(f"{row}.png" for row in range(6)))
    for row in (1, 2, 5):
        (root / f"{row}.png").write_bytes(b"damaged")
    source = opened(root)
    loaded = source.load(Request(torch.tensor([0, 1, 2, 3, 5])))
    assert loaded.index.tolist() == [0, 3, 3, 3, 0]
    assert [(position, name) for position, name, _ in loaded.replaced] == [
        (1, "1.png"),
        (1, "2.png"),
        (2, "2.png"),
        (4, "5.png"),
    ]
    assert torch.equal(loaded.images.pixels[1], loaded.images.pixels[3])
    chosen = source.subset(torch.tensor([1, 4]))
    assert chosen.load(Request(torch.tensor([0]))).index.tolist() == [1]
    assert chosen.id(1) == "4.png"


def test_damaged_data_stop_at_once(tmp_path):
    root = saved(tmp_path, *(f"{row}.png" for row in range(8)))
    for row in range(4):
        (root / f"{row}.png").write_bytes(b"damaged")
    with pytest.raises(BadInput, match=r"4 images in a row cannot be read, from 0.png on \(no JPEG"):
        opened(root).load(Request(torch.tensor([0])))
    for row in range(8):
        (root / f"{row}.png").write_bytes(b"")
    with pytest.raises(BadInput, match="none of the 8 images looked at can be read"):
        open_source(root)


def test_empty_folders_are_refused_by_name(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("x")
    with pytest.raises(BadInput, match="empty holds no images"):
        open_source(tmp_path / "empty")
    saved(tmp_path / "half", "train/1.png")
    (tmp_path / "half" / "test").mkdir()
    with pytest.raises(BadInput, match="half/test holds no images"):
        open_source(tmp_path / "half", "test")
    assert len(opened(tmp_path / "half")) == 1
