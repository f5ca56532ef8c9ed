"""Gray as color and color as gray, in arrays as in files."""

import numpy as np
import pytest
import torch
from PIL import Image

from sanslabel.errors import BadInput
from sanslabel.sources import open_source
from sanslabel.sources.pictures.channels import with_channels

RANDOM = np.random.default_rng(0)


def test_gray_digits_are_read_as_color():
    gray, color = open_source("digits"), open_source("digits", channels=3)
    assert (color.channels, color.images.shape[1]) == (3, 3)
    for channel in range(3):
        assert torch.equal(color.images[:, channel], gray.images[:, 0])
    assert torch.equal(color.labels, gray.labels)
    assert color.remarks == ("The pictures are gray; their channel is repeated, since the encoder reads color.",)
    assert gray.remarks == ()


def test_color_becomes_gray_as_pillow_makes_it(tmp_path):
    colors = RANDOM.integers(0, 256, (4, 3, 9, 8), np.uint8)
    np.save(tmp_path / "colors.npy", colors)
    source = open_source(tmp_path / "colors.npy", channels=1)
    for made, color in zip(source.images.numpy(), colors, strict=True):
        expected = Image.fromarray(np.ascontiguousarray(color.transpose(1, 2, 0))).convert("L")
        np.testing.assert_array_equal(made[0], np.asarray(expected))
    assert "read as gray" in source.remarks[0]


def test_luma_of_floats_and_of_deep_pixels():
    white = np.ones((2, 3, 2, 2), np.float32)
    np.testing.assert_allclose(with_channels(white, 1), 1)
    np.testing.assert_array_equal(with_channels(np.full((3, 2, 2), 65535, np.uint16), 1), np.full((1, 2, 2), 65535))
    red = np.zeros((3, 1, 1), np.float32)
    red[0] = 1
    assert with_channels(red, 1).item() == pytest.approx(0.299, abs=1e-4)


@pytest.mark.parametrize(("present", "wanted"), [(4, 3), (1, 4), (2, 1)])
def test_other_channels_are_refused_with_the_remedy(tmp_path, present, wanted):
    np.save(tmp_path / "x.npy", np.zeros((3, present, 9, 9), np.uint8))
    with pytest.raises(BadInput, match=rf"needs {wanted} channels, and .* have {present}; .* \(N, {wanted}, H, W\)"):
        open_source(tmp_path / "x.npy", channels=wanted)
