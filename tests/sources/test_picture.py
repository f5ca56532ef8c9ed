"""Image files of every kind, good and bad."""

import struct
import time
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from sanslabel.sources.pictures import picture as pixels_module
from sanslabel.sources.pictures import stored_picture
from sanslabel.sources.pictures.picture import picture
from sanslabel.sources.pictures.stored_picture import FORMATS, size
from sanslabel.sources.stores.store import Unreadable

RANDOM = np.random.default_rng(0)
COLOR = RANDOM.integers(0, 256, (9, 12, 3), np.uint8)
GREY = RANDOM.integers(0, 256, (9, 12), np.uint8)


def saved(folder, pixels, name="x.png", mode=None, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(folder / name, **options)
    return folder / name


def bomb(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("name", ["x.png", "x.webp", "x.bmp", "x.tiff", "wrong.jpg"])
def test_lossless_formats_keep_every_pixel(tmp_path, name):
    kind = "PNG" if name == "wrong.jpg" else None  # the content tells the format, not the name
    path = saved(tmp_path, COLOR, name, format=kind, **({"lossless": True} if "webp" in name else {}))
    np.testing.assert_array_equal(picture(path, 3, 64), COLOR.transpose(2, 0, 1))
    assert size(path) == (12, 9)


def test_jpeg_and_grey(tmp_path):
    smooth = np.add.outer(np.arange(64), np.arange(80)).astype(np.uint8)
    path = saved(tmp_path, smooth, "x.jpg", quality=95)
    assert abs(picture(path, 1, 256)[0].astype(int) - smooth).max() < 4
    np.testing.assert_array_equal(picture(path, 3, 256), np.repeat(picture(path, 1, 256), 3, axis=0))
    np.testing.assert_array_equal(
        picture(saved(tmp_path, COLOR), 1, 64)[0], np.asarray(Image.fromarray(COLOR).convert("L"))
    )


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "LA"])
def test_other_modes_are_converted(tmp_path, mode):
    image = Image.fromarray(COLOR).convert(mode)
    path = saved(tmp_path, image, "x.tiff" if mode == "CMYK" else "x.png")
    np.testing.assert_array_equal(picture(path, 3, 64), np.asarray(image.convert("RGB")).transpose(2, 0, 1))
    np.testing.assert_array_equal(picture(path, 1, 64)[0], np.asarray(image.convert("L")))


def test_a_cmyk_jpeg_has_its_colors(tmp_path):
    red = Image.new("RGB", (16, 16), (250, 10, 10)).convert("CMYK")
    pixels = picture(saved(tmp_path, red, "x.jpg", quality=95), 3, 64)
    assert abs(pixels[:, 8, 8].astype(int) - (250, 10, 10)).max() < 12


def test_transparent_parts_lie_on_white(tmp_path):
    rgba = np.concatenate([COLOR, GREY[..., None]], axis=2)
    alpha = GREY[..., None] / 255
    expected = COLOR * alpha + 255 * (1 - alpha)
    assert abs(picture(saved(tmp_path, rgba), 3, 64).transpose(1, 2, 0) - expected).max() <= 1
    palette = Image.new("P", (2, 1))
    palette.putpalette([200, 0, 0, 0, 200, 0])
    palette.putpixel((1, 0), 1)
    path = saved(tmp_path, palette, "p.png", transparency=0)
    assert picture(path, 3, 64)[:, 0].T.tolist() == [[255, 255, 255], [0, 200, 0]]


@pytest.mark.parametrize("name", ["x.png", "x.tiff"])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path, name):
    deep = np.uint16([[0, 128, 129, 257, 300, 32896, 65406, 65407, 65535]])
    path = saved(tmp_path, deep, name)
    np.testing.assert_array_equal(picture(path, 1, 64)[0, 0], [0, 0, 1, 1, 1, 128, 254, 255, 255])
    np.testing.assert_array_equal(picture(path, 3, 64)[2], picture(path, 1, 64)[0])


@pytest.mark.parametrize("name", ["x.gif", "x.webp", "x.png", "x.tiff"])
def test_animations_give_their_first_frame(tmp_path, name):
    frames = [Image.new("RGB", (8, 6), color) for color in ("red", "lime", "blue")]
    options = {"lossless": True} if name == "x.webp" else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    assert picture(tmp_path / name, 3, 64)[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("name", ["x.png", "x.tiff", "x.jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_stand_upright(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, COLOR, name, exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image)).transpose(2, 0, 1)
    assert expected.shape[1:] == ((9, 12) if orientation < 5 else (12, 9))
    np.testing.assert_array_equal(picture(path, 3, 64), expected)


def test_malformed_metadata_do_not_make_an_image_bad(tmp_path):
    path = saved(tmp_path, COLOR, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 40)
    np.testing.assert_array_equal(picture(path, 3, 64), COLOR.transpose(2, 0, 1))


@pytest.mark.parametrize("name", ["x.png", "x.jpg"])
@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (64, 64, (64, 64)),  # (height, width) for a side of 64
        (1, 1, (1, 1)),
        (63, 100, (100, 63)),
        (65, 64, (64, 65)),
        (640, 480, (64, 85)),
        (480, 640, (85, 64)),
        (1280, 1279, (64, 64)),
        (10, 500, (128, 10)),
        (500, 10, (10, 128)),
        (2000, 100, (64, 128)),
        (100, 2000, (128, 64)),
    ],
)
def test_the_size_is_bounded(tmp_path, name, width, height, expected):
    path = saved(tmp_path, Image.new("RGB", (width, height), (10, 200, 30)), name, quality=100)
    pixels = picture(path, 3, 64)
    assert pixels.shape == (3, *expected)
    assert abs(pixels.astype(int) - np.reshape([10, 200, 30], (3, 1, 1))).max() <= 2
    assert picture(path, 1, 64).shape == (1, *expected)


def test_a_long_image_keeps_its_middle(tmp_path):
    ramp = np.repeat(np.uint8([np.arange(1000) // 4]), 100, axis=0)  # 100 x 1000: halved, and 256 of 500 columns kept
    kept = picture(saved(tmp_path, ramp), 1, 50)[0, 25].astype(int)
    np.testing.assert_allclose(kept, np.arange(400, 600, 2) / 4, atol=0.5)
    unscaled = picture(saved(tmp_path, ramp[:20]), 1, 50)[0, 10]
    np.testing.assert_array_equal(unscaled, ramp[0, 450:550])


@pytest.mark.parametrize(("name", "worst"), [("x.png", 3), ("x.jpg", 12)])
def test_reduction_is_antialiased(tmp_path, name, worst):
    """Against Pillow's resize of the whole image, within the few levels that decoding at reduced size costs."""
    coarse = Image.fromarray(RANDOM.integers(0, 256, (30, 40, 3), np.uint8))
    path = saved(tmp_path, coarse.resize((1600, 1200), Image.Resampling.BICUBIC), name)
    with Image.open(path) as image:
        expected = np.asarray(image.resize((171, 128), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    difference = abs(picture(path, 3, 128).astype(int) - expected)
    assert difference.mean() < 1.5
    assert difference.max() <= worst


BAD = {
    "zero.jpg": (b"", "no JPEG"),
    "text.png": (b"not an image at all", "no JPEG"),
    "table.png": (b"P6 2 2 255\n" + bytes(12), "no JPEG"),  # Pillow could, but is not let
    "fits.png": (b"SIMPLE  =                    T".ljust(80) + b"NAXIS   = 0".ljust(80), "no JPEG"),
    "head.png": (b"\x89PNG\r\n\x1a\n", "no JPEG|runcated"),
    "bomb.png": (bomb(50_000, 50_000), "2,500,000,000 pixels, more than 128,000,000; reduce the picture"),
    "large.png": (bomb(12_000, 12_000), "12000 x 12000 pixels, more than 128,000,000"),
    "warned.png": (bomb(10_000, 10_000), "truncated"),  # Pillow only warns of this one, and it is cut off
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_fast_with_a_reason(tmp_path, name):
    content, reason = BAD[name]
    (tmp_path / name).write_bytes(content)
    begin = time.perf_counter()
    with (
        warnings.catch_warnings(record=True, action="always") as caught,
        pytest.raises(Unreadable, match=reason) as error,
    ):
        picture(tmp_path / name, 3, 64)
    assert time.perf_counter() - begin < 1
    assert not caught
    assert str(error.value)
    assert str(tmp_path) not in str(error.value)


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp", "x.tiff", "x.bmp", "x.gif"])
def test_cut_off_files_are_refused(tmp_path, name):
    path = saved(tmp_path, RANDOM.integers(0, 256, (64, 64, 3), np.uint8), name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    with pytest.raises(Unreadable):
        picture(path, 3, 32)


def test_files_that_are_not_there_or_not_files(tmp_path):
    for path in (tmp_path / "missing.png", tmp_path):
        with pytest.raises(Unreadable, match=r"No such file|Is a directory"):
            picture(path, 3, 64)


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_pixels_of_unknown_range_are_refused(tmp_path, kind):
    path = saved(tmp_path, GREY.astype(kind), "x.tiff")
    with pytest.raises(Unreadable, match="32-bit"):
        picture(path, 1, 64)


def test_random_damage_never_escapes(tmp_path):
    """Flipped bytes anywhere: pixels of the promised kind or Unreadable, nothing else."""
    path = tmp_path / "x"
    for name in ("x.png", "x.jpg", "x.webp", "x.tiff", "x.bmp", "x.gif"):
        good = np.frombuffer(saved(tmp_path, COLOR, name).read_bytes(), np.uint8)
        for _ in range(60):
            damaged = good.copy()
            damaged[RANDOM.integers(0, len(good), 3)] = RANDOM.integers(0, 256, 3)
            path.write_bytes(damaged.tobytes())
            try:
                pixels = picture(path, 3, 32)
            except Unreadable:
                continue
            assert pixels.dtype == np.uint8
            assert pixels.shape[0] == 3
            assert max(pixels.shape[1:]) <= 64


def test_the_allowed_formats_are_the_six():
    assert set(FORMATS) == {"JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"}


@pytest.fixture
def small_limits(monkeypatch):
    """Limits of 10,000 pixels, and of 5,000 in Pillow, which refuses twice as many by itself."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5_000)
    monkeypatch.setattr(stored_picture, "PIXELS", 10_000)
    monkeypatch.setattr(pixels_module, "PIXELS", 10_000)
    monkeypatch.setattr(stored_picture, "LARGEST_JPEG", 200_000)


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_large_jpeg_is_decoded_at_reduced_size(tmp_path, mode, monkeypatch):
    smooth = np.add.outer(np.arange(300), np.arange(400)).astype(np.uint8)
    path = saved(tmp_path, smooth, "x.jpg", mode=mode, quality=95)
    reduced = picture(path, 3, 32)
    assert reduced.shape == (3, 32, 42)
    monkeypatch.undo()
    np.testing.assert_array_equal(reduced, picture(path, 3, 32))


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize(
    ("name", "side", "options", "reason"),
    [
        ("x.jpg", 32, {"progressive": True}, "400 x 300 pixels, more than 10,000; reduce the picture to use it"),
        ("x.jpg", 256, {}, "400 x 300 pixels"),
        ("x.png", 32, {}, "120,000 pixels, more than 10,000; reduce the picture to use it"),
        ("x.tiff", 32, {}, "120,000 pixels"),
    ],
)
def test_other_large_pictures_are_refused_in_plain_words(tmp_path, monkeypatch, name, side, options, reason):
    with monkeypatch.context() as unlimited:
        unlimited.setattr(Image, "MAX_IMAGE_PIXELS", None)
        path = saved(tmp_path, RANDOM.integers(0, 256, (300, 400, 3), np.uint8), name, **options)
    with pytest.raises(Unreadable, match=reason) as error:
        picture(path, 3, side)
    assert "bomb" not in str(error.value)


@pytest.mark.usefixtures("small_limits")
def test_a_jpeg_that_is_too_large_even_reduced(tmp_path, monkeypatch):
    monkeypatch.setattr(stored_picture, "LARGEST_JPEG", 100_000)
    with pytest.raises(Unreadable, match="400 x 300 pixels, more than 10,000"):
        picture(saved(tmp_path, Image.new("RGB", (400, 300)), "x.jpg"), 3, 32)
