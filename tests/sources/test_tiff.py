"""TIFF files with any number of channels, on pages or in one."""

import builtins

import numpy as np
import pytest
import torch
from PIL import Image

from sanslabel.errors import BadInput
from sanslabel.sources import Request, open_source
from sanslabel.sources.pictures.picture import picture
from sanslabel.sources.pictures.stored_picture import header
from sanslabel.sources.pictures.tiff import Stack, stack
from sanslabel.sources.stores.store import Unreadable

tifffile = pytest.importorskip("tifffile")
RANDOM = np.random.default_rng(0)


def pixels(channels=4, side=16, dtype=np.uint16, high=4096):
    return RANDOM.integers(0, high, (channels, side, side + 4)).astype(dtype)


def interleaved(path, array, **options):
    tifffile.imwrite(path, np.ascontiguousarray(array.transpose(1, 2, 0)), planarconfig="contig", **options)


def planar(path, array, **options):
    tifffile.imwrite(path, array, planarconfig="separate", **options)


def imagej(path, array, axes="CYX", **options):
    tifffile.imwrite(path, array, imagej=True, metadata={"axes": axes}, **options)


def ome(path, array, axes="CYX", **options):
    tifffile.imwrite(path, array, ome=True, metadata={"axes": axes}, photometric="minisblack", **options)


WRITERS = {
    "interleaved": (interleaved, {"photometric": "minisblack"}),
    "planar": (planar, {"photometric": "minisblack"}),
    "deflate": (interleaved, {"photometric": "minisblack", "compression": "zlib", "predictor": True}),
    "tiles": (planar, {"photometric": "minisblack", "tile": (16, 16), "compression": "zlib"}),
    "big-endian": (interleaved, {"photometric": "minisblack", "byteorder": ">"}),
    "BigTIFF": (interleaved, {"photometric": "minisblack", "bigtiff": True}),
    "ImageJ": (imagej, {}),
    "OME": (ome, {}),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("channels", [2, 4, 7])
def test_every_channel_is_read(tmp_path, writer, channels):
    write, options = WRITERS[writer]
    stored = pixels(channels)
    write(tmp_path / "x.tif", stored, **options)
    levels = ((0.0, 4095.0),) * channels
    np.testing.assert_array_equal(picture(tmp_path / "x.tif", channels, 64, levels), np.round(stored / 4095 * 255))
    stated = header(tmp_path / "x.tif")
    assert (stated.size, stated.channels, stated.deep) == ((20, 16), channels, True)
    assert (stated.unread, stated.others) == (0, "")


@pytest.mark.parametrize("write", [interleaved, planar])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"byteorder": ">"}], ids=str)
def test_all_16_bits_of_color(tmp_path, write, options):
    stored = pixels(3)
    write(tmp_path / "x.tif", stored, photometric="rgb", **options)
    expected = np.round(stored / 4095 * 255)
    np.testing.assert_array_equal(picture(tmp_path / "x.tif", 3, 64, ((0.0, 4095.0),) * 3), expected)


@pytest.mark.parametrize("write", [interleaved, planar, imagej, ome])
def test_channels_of_8_bits_are_as_stored(tmp_path, write):
    stored = pixels(5, dtype=np.uint8, high=256)
    options = {"photometric": "minisblack"} if write in (interleaved, planar) else {}
    write(tmp_path / "x.tif", stored, **options)
    np.testing.assert_array_equal(picture(tmp_path / "x.tif", 5, 64), stored)
    assert not header(tmp_path / "x.tif").deep


def test_a_folder_of_channels_becomes_a_source(tmp_path):
    for row in range(5):
        imagej(tmp_path / f"{row}.tif", pixels(4))
    source = open_source(tmp_path)
    assert source.channels == 4
    assert source.image.levels is not None
    assert len(source.image.levels) == 4
    assert source.load(Request(torch.arange(3))).images.pixels.shape == (3, 4, 16, 20)
    assert source.remarks[0] == "Each picture has 4 channels; changes of hue and saturation are left out."
    assert len(source.standardization()[0]) == 4
    with pytest.raises(BadInput, match="needs 3 channels, and these images have 4"):
        open_source(tmp_path, channels=3)


def test_different_numbers_of_channels_are_refused(tmp_path):
    imagej(tmp_path / "a.tif", pixels(4))
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "b.png")
    with pytest.raises(BadInput, match=r"numbers of channels \(b.png has 1 and a.tif has 4\); separate them"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("write", "axes", "shape"),
    [
        (imagej, "ZCYX", (3, 2, 16, 20)),
        (imagej, "TZCYX", (2, 3, 2, 16, 20)),
        (ome, "ZCYX", (3, 2, 16, 20)),
        (ome, "CZYX", (2, 3, 16, 20)),
        (ome, "TCZYX", (4, 2, 3, 16, 20)),
    ],
)
def test_of_slices_the_first_is_read_with_all_its_channels(tmp_path, write, axes, shape):
    stored = RANDOM.integers(0, 4096, shape).astype(np.uint16)
    write(tmp_path / "x.tif", stored, axes)
    first = stored[tuple(slice(None) if axis in "CYX" else 0 for axis in axes)]
    levels = ((0.0, 4095.0),) * 2
    np.testing.assert_array_equal(picture(tmp_path / "x.tif", 2, 64, levels), np.round(first / 4095 * 255))
    source = open_source(tmp_path)
    assert source.channels == 2
    assert "1 of 1 files looked at have 3 slices" in source.remarks[1]
    assert source.remarks[1].endswith("; the first is read.")


def test_other_pages_are_reported(tmp_path):
    for row in range(3):
        tifffile.imwrite(tmp_path / f"{row}.tif", pixels(5, dtype=np.uint8, high=256), photometric="minisblack")
    source = open_source(tmp_path)
    assert source.channels == 1
    assert source.remarks == (
        "Each has 5 pages; the first is read. Pages that are channels need ImageJ's or OME's description.",
    )
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "9.png")
    assert "3 of 4 files looked at have several pages, up to 5" in open_source(tmp_path).remarks[0]


def test_descriptions():
    assert stack("ImageJ=1.54f\nimages=24\nchannels=2\nslices=3\nframes=4\n") == Stack(
        2, 1, "3 slices and 4 points in time"
    )
    assert stack("ImageJ=1.54f\nimages=4\nslices=4\n") == Stack(1, 1, "4 slices")
    pixels = '<OME><Image><Pixels SizeC="2" SizeT="1" SizeX="9" SizeZ="3" DimensionOrder="XYZCT"/></Image></OME>'
    assert stack(pixels) == Stack(2, 3, "3 slices")
    assert stack(pixels).pages == [0, 3]
    for other in (None, b"", "", "ImageJ=", "ImageJ=1\nchannels=x\nslices=9999999\n", "<Pixels", "__import__('os')"):
        assert stack(other) == Stack()


def test_announced_channels_that_are_not_there(tmp_path):
    info = {270: "ImageJ=1.54f\nimages=4\nchannels=4\n"}
    Image.fromarray(pixels(1)[0]).save(tmp_path / "x.tif", tiffinfo=info)
    with pytest.raises(Unreadable, match="announces 4 channels and has 1 pages"):
        picture(tmp_path / "x.tif", 4, 64)
    info = {270: "ImageJ=1.54f\nimages=4\nchannels=999999\n"}
    Image.fromarray(pixels(1)[0]).save(tmp_path / "x.tif", tiffinfo=info)
    with pytest.raises(Unreadable, match="999999 channels"):
        picture(tmp_path / "x.tif", 999_999, 64)


def test_without_tifffile_the_extra_is_named(tmp_path, monkeypatch):
    interleaved(tmp_path / "x.tif", pixels(4), photometric="minisblack")
    imported = builtins.__import__

    def without(name, *arguments, **options):
        if name == "tifffile":
            raise ImportError(name)
        return imported(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BadInput, match=r'tifffile; install it by pip install "sanslabel\[tiff\]"'):
        open_source(tmp_path)


@pytest.mark.parametrize("options", [{"compression": "lzma"}, {"compression": "zstd"}])
def test_other_compressions_are_refused(tmp_path, options):
    try:
        interleaved(tmp_path / "x.tif", pixels(4), photometric="minisblack", **options)
    except (ValueError, ImportError, RuntimeError):
        pytest.skip("tifffile cannot write this")
    with pytest.raises(Unreadable, match=r"compressed with .*; save it without compression"):
        picture(tmp_path / "x.tif", 4, 64)


def test_numbers_that_are_no_pixels(tmp_path):
    stored = pixels(4).astype(np.complex64)
    interleaved(tmp_path / "x.tif", stored, photometric="minisblack")
    with pytest.raises(Unreadable, match="of kind complex64; convert it to 8 or 16 bits"):
        picture(tmp_path / "x.tif", 4, 64)
    interleaved(tmp_path / "y.tif", pixels(4).astype(np.float64), photometric="minisblack")
    assert picture(tmp_path / "y.tif", 4, 64, ((0.0, 4095.0),) * 4).mean() > 100


def test_damage_never_escapes(tmp_path):
    path = tmp_path / "x.tif"
    for write, options in WRITERS.values():
        write(path, pixels(3), **options)
        good = np.frombuffer(path.read_bytes(), np.uint8)
        places = np.minimum(len(good), 600)
        for _ in range(25):
            damaged = good.copy()
            damaged[RANDOM.integers(0, places, 3)] = RANDOM.integers(0, 256, 3)
            path.write_bytes(damaged.tobytes())
            try:
                read = picture(path, 3, 32, ((0.0, 1.0),) * 3)
            except Unreadable:
                continue
            assert read.dtype == np.uint8
            assert read.shape[0] == 3
            assert max(read.shape[1:]) <= 64


def test_gray_and_color_files_are_refused_by_the_number_of_color(tmp_path):
    for name, mode in (("a.png", "L"), ("b.png", "RGB")):
        Image.new(mode, (16, 16), 99).save(tmp_path / name)
    with pytest.raises(BadInput, match=r"needs 4 channels, and these images have 3; .* such as TIFF files or an \.npy"):
        open_source(tmp_path, channels=4)
