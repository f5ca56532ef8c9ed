"""Pictures of more than 8 bits: what a person sees, and the same levels for all."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from sanslabel import encoders
from sanslabel.errors import BadInput
from sanslabel.inputs import ImageSpec
from sanslabel.run_config import Plan
from sanslabel.serialization import from_plain, to_plain
from sanslabel.sources import Request, open_source
from sanslabel.sources.pictures.levels import described, measured_levels, scaled
from sanslabel.sources.pictures.picture import picture
from sanslabel.sources.stores.store import Unreadable

RANDOM = np.random.default_rng(0)


def camera(count=1, side=16, low=100, high=4000):
    """Pixels of a camera of 12 bits."""
    return RANDOM.integers(low, high + 1, (count, side, side)).astype(np.uint16)


def folder_of(root, pictures, name="png"):
    root.mkdir(exist_ok=True)
    for row, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(root / f"{row:02}.{name}")
    return root


def png(pixels: np.ndarray) -> bytes:
    """Returns a PNG of 16 bits and two to four channels, which Pillow cannot write: (H, W, C) uint16."""
    height, width, channels = pixels.shape

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in pixels)
    end = chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + end


def loaded(source, row=0):
    return source.load(Request(torch.tensor([row]))).images.pixels[0].numpy()


@pytest.mark.parametrize("name", ["png", "tif"])
def test_twelve_bits_are_not_black(tmp_path, name):
    source = open_source(folder_of(tmp_path / "x", camera(5), name))
    ((low, high),) = source.image.levels
    assert 100 <= low <= 120
    assert 3980 <= high <= 4000
    pixels = loaded(source)
    assert 100 < pixels.mean() < 155
    assert len(np.unique(pixels)) > 100
    assert source.remarks == (
        "Pixels of more than 8 bits are scaled by the percentiles 0.1 and 99.9 of 5 pictures. "
        f"From black to white: {low:,.0f} to {high:,.0f}.",
    )


def test_all_pictures_share_the_levels(tmp_path):
    bright = camera(6)
    source = open_source(folder_of(tmp_path / "x", [*bright, bright[0] // 4]))
    assert abs(loaded(source, 6).mean() / loaded(source, 0).mean() - 0.25) < 0.02


def test_levels_of_a_run_go_before_those_of_the_data(tmp_path):
    root = folder_of(tmp_path / "x", camera(4))
    source = open_source(root, levels=((0.0, 8191.0),))
    assert source.image.levels == ((0.0, 8191.0),)
    with Image.open(root / "00.png") as image:
        np.testing.assert_array_equal(loaded(source)[0], np.round(np.asarray(image) / 8191 * 255))
    assert source.remarks == ("Pixels of more than 8 bits are scaled as in training. From black to white: 0 to 8,191.",)
    assert source.fingerprint == open_source(root).fingerprint


def test_the_sizes_that_a_run_requests_leave_the_levels_open(tmp_path):
    source = open_source(folder_of(tmp_path / "x", camera(4)), image_size=16, channels=1)
    assert source.image.levels is not None
    assert loaded(source).mean() > 100


def test_pictures_of_8_bits_have_no_levels(tmp_path):
    source = open_source(folder_of(tmp_path / "x", RANDOM.integers(0, 30, (3, 9, 9), np.uint8)))
    assert source.image == ImageSpec(channels=1, height=9, width=9)
    assert source.remarks == ()
    assert loaded(source).max() < 30


def test_beside_8_bits_the_depth_decides(tmp_path):
    eight = RANDOM.integers(0, 256, (16, 16), np.uint8)
    source = open_source(folder_of(tmp_path / "x", [*camera(2, high=3000), eight]))
    assert source.image.levels == ((0.0, 4095.0),)
    np.testing.assert_array_equal(loaded(source, 2)[0], eight)
    assert "by their depth, since 1 of 3 pictures looked at have 8 bits" in source.remarks[0]


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_constant_pictures_have_levels(tmp_path, dtype):
    source = open_source(folder_of(tmp_path / "x", [np.full((9, 9), 700, dtype)] * 3, "tif"))
    assert loaded(source).max() == 0
    assert source.standardization() == ((0.0,), (1 / 255,))


def test_a_few_bright_points_on_black_are_not_all_white():
    pixels = np.zeros((1, 100_000), np.uint16)
    pixels[0, :10] = np.arange(100, 1100, 100)
    assert measured_levels([pixels], among_8_bits=False) == ((0.0, 1000.0),)


def test_fractions_and_whole_numbers_of_32_bits(tmp_path):
    fractions = [RANDOM.uniform(-2, 5, (16, 16)).astype(np.float32) for _ in range(3)]
    fractions[0][0] = np.nan
    fractions[0][1] = np.inf
    source = open_source(folder_of(tmp_path / "f", fractions, "tif"))
    ((low, high),) = source.image.levels
    assert -2 <= low < -1.9
    assert 4.9 < high <= 5
    pixels = loaded(source)
    assert (pixels[0, 0] == 0).all()
    assert (pixels[0, 1] == 255).all()
    whole = [RANDOM.integers(-1000, 100_000, (16, 16)).astype(np.int32) for _ in range(3)]
    assert 100 < loaded(open_source(folder_of(tmp_path / "w", whole, "tif"))).mean() < 155


def test_whole_numbers_and_fractions_in_one_folder_are_refused(tmp_path):
    pictures = [camera()[0], RANDOM.uniform(0, 1, (16, 16)).astype(np.float32)]
    with pytest.raises(BadInput, match=r"different kinds of numbers \(.* has .* and .* has .*\); separate them"):
        open_source(folder_of(tmp_path / "x", pictures, "tif"))


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_all_bits_of_a_png_with_channels_count(tmp_path, channels):
    stored = RANDOM.integers(0, 4096, (9, 12, channels)).astype(np.uint16)
    transparent = channels in (2, 4)
    if transparent:
        stored[..., -1] = 65535
        stored[0, 0, -1] = 0
    colors = stored[..., : channels - transparent]
    (tmp_path / "x.png").write_bytes(png(stored))
    levels = ((0.0, 4095.0),) * colors.shape[2]
    expected = np.round(colors / 4095 * 255).transpose(2, 0, 1)
    if transparent:
        expected[:, 0, 0] = 255
    np.testing.assert_array_equal(picture(tmp_path / "x.png", colors.shape[2], 64, levels), expected)


def test_each_channel_has_levels_of_its_own(tmp_path):
    for row in range(4):
        stored = RANDOM.integers(0, np.array([4000, 400, 40]), (16, 16, 3)).astype(np.uint16)
        (tmp_path / f"{row}.png").write_bytes(png(stored))
    source = open_source(tmp_path)
    assert [high > 0.9 * most for (_, high), most in zip(source.image.levels, (4000, 400, 40), strict=True)] == [
        True
    ] * 3
    assert (loaded(source).mean((1, 2)) > 100).all()
    assert described(source.image.levels).startswith("channel 1 from ")


def test_scaling_by_known_values():
    pixels = np.uint16([[[0, 100, 101, 150, 200, 300]]])
    assert scaled(pixels, ((100.0, 200.0),)).tolist() == [[[0, 0, 3, 128, 255, 255]]]


def test_an_upright_picture_stays_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = camera(1, 16)[0, :9]
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    expected = np.rot90(np.round(pixels / 65535 * 255), -1)
    np.testing.assert_array_equal(picture(tmp_path / "x.png", 1, 64)[0], expected)


def test_without_levels_32_bits_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(Unreadable, match="32-bit pixels, whose range is not known"):
        picture(tmp_path / "x.tif", 1, 64)


def test_levels_are_stored_as_json_and_older_files_have_none():
    spec = ImageSpec(channels=2, height=8, width=8, levels=((0.0, 1.5), (3.0, 4000.0)))
    hint = Plan.__dataclass_fields__["inputs"].type
    assert hint == "dict[str, InputSpec]"
    assert from_plain(ImageSpec, to_plain(spec)) == spec
    older = {"kind": "ImageSpec", "channels": 2, "height": 8, "width": 8}
    assert from_plain(ImageSpec, older) == ImageSpec(channels=2, height=8, width=8)


@pytest.mark.parametrize("name", ["conv", "mlp", "resnet18"])
def test_an_encoder_states_the_levels_that_it_was_trained_at(name):
    spec = ImageSpec(channels=2, height=32, width=32, levels=((0.0, 1.5), (3.0, 4000.0)))
    encoder = encoders.build(name, **spec.arguments)
    assert encoder.reads == spec
    assert encoders.build(**encoder.config).reads == spec
    assert encoder.config["levels"] == [[0.0, 1.5], [3.0, 4000.0]]
    assert "levels" not in encoders.build(name, channels=2, image_size=32).config
    code = encoders.LinearCode.on(encoder, 4) if hasattr(encoders, "LinearCode") else encoder
    assert code.reads == spec


@pytest.mark.parametrize("levels", [((0, 1),), ((1, 0), (0, 1)), ((0, float("nan")), (0, 1)), "no", [[0], [1]], 5])
def test_levels_that_make_no_sense_are_refused(levels):
    with pytest.raises(BadInput, match="two numbers for each channel"):
        encoders.build("mlp", channels=2, image_size=8, levels=levels)
