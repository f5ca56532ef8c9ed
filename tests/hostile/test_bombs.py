"""Small files that ask for much: refused before it is taken, and soon."""

import gzip
import json
import os
import struct
import time
import zipfile
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from sanslabel import checkpoint, encoders
from sanslabel.errors import BadInput
from sanslabel.sources import open_source
from sanslabel.sources.pictures.picture import picture
from sanslabel.sources.stores.store import Unreadable

MOST, SECONDS = 200 << 20, 5.0
"""bytes above what the process holds, and time, on a busy machine; a refusal takes a few milliseconds"""
GIB = 1 << 30


@pytest.fixture
def cheap(peak):
    """Calls what must refuse, and says with which words."""

    def refusal(call, error=BadInput):
        def refused():
            with pytest.raises(error) as caught:
                call()
            messages.append(str(caught.value))

        messages, began = [], time.perf_counter()
        assert peak(refused) < MOST
        assert time.perf_counter() - began < SECONDS
        return messages[0]

    return refusal


def npy(shape, descr="|u1") -> bytes:
    file = BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


def written(path, *contents: bytes, zeros: int = 0, last: bytes = b""):
    """A file with a hole in it, which takes no room on the disk."""
    with path.open("wb") as file:
        file.writelines(contents)
        file.seek(zeros, os.SEEK_CUR)
        file.write(last)
        file.truncate()
    return path


IDX = b"\0\0\x08\x03" + struct.pack(">III", 10, 28, 28)


def test_gzip_that_goes_on_beyond_what_it_announces(tmp_path, cheap):
    more = gzip.compress(bytes(16 << 20), 1) * 64  # a gigabyte in 5 MB
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(IDX) + more)
    assert "announces 7,840 bytes and has another number" in cheap(lambda: open_source(tmp_path))


def test_gzip_that_announces_what_it_cannot_hold(tmp_path, cheap):
    content = gzip.compress(b"\0\0\x08\x03" + struct.pack(">III", 6 << 20, 28, 28) + bytes(9999))
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(content)
    assert "announces 4,932,501,504 bytes" in cheap(lambda: open_source(tmp_path))


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "data_batch_1.bin", "set.npy"])
def test_files_of_holes_alone_that_are_larger_than_the_memory(tmp_path, cheap, name):
    """Their headers are right."""
    records = 1 << 32
    head = {"train-images-idx3-ubyte": b"\0\0\x08\x03" + struct.pack(">III", records - 1, 55, 56)}
    head["set.npy"] = npy((records - 1, 55, 56))
    zeros = 3073 * records if "data" in name else (records - 1) * 55 * 56
    path = written(tmp_path / name, head.get(name, b""), zeros=zeros)
    assert "more than this machine's memory" in cheap(lambda: open_source(path if name == "set.npy" else tmp_path))


def directory(entry: bytes, count: int) -> bytes:
    """The list of members at the end of an archive, all called alike."""
    one = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 3, 20, 0, 0, 0, 0, 0, 0, 0, 0, len(entry), 0, 0, 0, 0, 0, 0)
    size = count * (len(one) + len(entry))
    wide = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, 0)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, size, 1)
    return (one + entry) * count + wide + locator + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, size, 0, 0)


def test_a_million_members(tmp_path, cheap):
    (tmp_path / "set.npz").write_bytes(directory(b"a.npy", 3))
    assert "no array called images (it has: a, a, a)" in cheap(lambda: open_source(tmp_path / "set.npz"))
    (tmp_path / "set.npz").write_bytes(directory(b"a.npy", 1_000_000))
    assert "its list of members is longer" in cheap(lambda: open_source(tmp_path / "set.npz"))


def archive(path, name: str, *contents: bytes, how: int = zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", how, compresslevel=1) as packed, packed.open(name, "w") as member:
        for content in contents:
            member.write(content)
    return path


def test_members_that_unpack_to_more_than_they_are(tmp_path, cheap):
    zeros = [bytes(1 << 20)] * 300
    images = npy((10, 8, 8)) + bytes(640)
    for what, name, contents, how in [
        ("announces 6,400,000,000,000 bytes", "images", [npy((10**11, 8, 8))], zipfile.ZIP_DEFLATED),
        ("packed in another way", "images", [npy((1 << 14, 8, 8)), zeros[0]], zipfile.ZIP_LZMA),
        ("announces 314,572,800 bytes and has 4,194,304 at most", "classes", [npy((75 << 20,), "<U1"), *zeros], None),
    ]:
        path = archive(tmp_path / "set.npz", f"{name}.npy", *contents, how=how or zipfile.ZIP_DEFLATED)
        if name != "images":
            with zipfile.ZipFile(path, "a") as packed:
                packed.writestr("images.npy", images)
        assert what in cheap(lambda path=path: open_source(path))


def test_members_that_lead_elsewhere_stay_where_they_are(tmp_path):
    images = npy((10, 8, 8)) + bytes(640)
    folder = tmp_path / "inner"
    folder.mkdir()
    with zipfile.ZipFile(folder / "set.npz", "w") as packed:
        for name in ("../images.npy", "/images.npy", str(tmp_path / "images.npy"), "images.npy"):
            packed.writestr(name, images)
        link = zipfile.ZipInfo("labels.npy")
        link.external_attr = 0o120777 << 16
        packed.writestr(link, "/etc/passwd")
    with pytest.raises(BadInput, match="array labels"):
        open_source(folder / "set.npz")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["cache", "here", "inner", "set.npz"][1:]


def tar_header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """Returns the header of a member, with a right sum."""
    begin = name.ljust(100, b"\0") + b"0000644\0" * 3 + size.ljust(12, b"\0") + bytes(12)
    end = kind.ljust(101, b"\0") + b"ustar\x0000".ljust(255, b"\0")
    return begin + b"%06o\0 " % (sum(begin) + sum(end) + 256) + end


def test_archives_that_announce_what_they_do_not_hold(tmp_path, cheap):
    path = tmp_path / "x.tar"
    cases = {
        b"0": "x.png ends at byte 8,589,935,103 of",
        b"x": "a name of 8,589,934,591 bytes",
        b"L": "a name of 8,589,934,591 bytes",
        b"S": "x.png ends at byte",
    }
    for kind, message in cases.items():
        written(path, tar_header(b"x.png", b"77777777777", kind), zeros=1 << 20)
        assert message in cheap(lambda: open_source(path))


def test_archives_of_holes_and_of_large_members(tmp_path, cheap):
    path, size = tmp_path / "x.tar", 4 * GIB - 512
    written(path, tar_header(b"x.png", b"%011o" % size), zeros=size + 1024)
    assert "4,294,966,784 bytes, more than" in cheap(lambda: open_source(path))
    size = 400 << 20
    written(path, tar_header(b"x.cls", b"%011o" % size), zeros=size, last=tar_header(b"x.txt", b"0") + bytes(1024))
    assert "holds no images" in cheap(lambda: open_source(path))


def test_archives_of_many_members(tmp_path, cheap):
    """A million folders, and as many members of one name, of which the last counts."""
    path = tmp_path / "x.tar"
    written(path, tar_header(b"x/", b"0", b"5") * 100_000, last=bytes(1024))
    assert "holds no images" in cheap(lambda: open_source(path))
    written(path, tar_header(b"x.png", b"0") * 50_000, last=bytes(1024))
    assert "none of the 1 images looked at can be read" in cheap(lambda: open_source(path))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEAD = SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))


PACKER = zlib.compressobj(1)
PROFILE = b"".join(PACKER.compress(bytes(1 << 20)) for _ in range(300)) + PACKER.flush()


def pictures():
    """Names and what makes them."""
    huge = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 6, 0, 0, 0)
    packed = chunk(b"iCCP", b"x\0\0" + PROFILE)
    yield "pixels", lambda path: written(path, SIGNATURE, chunk(b"IHDR", huge), chunk(b"IDAT", b""))
    yield "exif", lambda path: written(path, HEAD, struct.pack(">I4s", GIB, b"eXIf"), zeros=GIB)
    yield "profile", lambda path: written(path, HEAD, packed, chunk(b"IDAT", b""))
    yield "webp", lambda path: written(path, struct.pack("<4sI4s", b"RIFF", GIB, b"WEBP"), b"VP8L", zeros=GIB)
    wide = struct.pack("<BBHHBBHHHH", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    yield (
        "bmp",
        lambda path: written(path, b"BM", struct.pack("<IIIIiiHH", 0, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24), wide),
    )
    tag = struct.pack("<2sHIHHHII", b"II", 42, 8, 1, 0x8769, 7, 2**31 - 1, 8)
    yield "tiff", lambda path: written(path, tag, zeros=99)
    yield "gif", lambda path: written(path, b"GIF89a", struct.pack("<HHBBB", 65535, 65535, 0, 0, 0), b"\x21\xfe")


@pytest.mark.parametrize("name", [name for name, _ in pictures()])
def test_pictures(tmp_path, cheap, name):
    path = dict(pictures())[name](tmp_path / "x.png")
    assert cheap(lambda: picture(path, 3, 64), Unreadable)


def test_pipes_devices_and_loops_in_a_folder_are_not_waited_for(tmp_path):
    folder = tmp_path / "set"
    (folder / "a").mkdir(parents=True)
    Image.new("RGB", (8, 8), "red").save(folder / "a" / "x.png")
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "train-images-idx3-ubyte")
    os.mkfifo(folder / "a" / "data_batch_1.bin")
    os.symlink("/dev/zero", folder / "zero.png")
    os.symlink("/dev/zero", folder / "run.json")
    os.symlink("..", folder / "a" / "up")
    os.symlink("turn.png", folder / "turn.png")
    source = open_source(folder)
    assert [source.id(i) for i in range(len(source))] == ["a/x.png"]
    for name in ("pipe.png", "zero.png", "turn.png"):
        with pytest.raises(Unreadable):
            picture(folder / name, 3, 64)
    with pytest.raises(BadInput, match="neither a folder nor"):
        open_source(folder / "pipe.png")
    with pytest.raises(BadInput, match=r"data_batch_1.bin has 0 bytes"):
        open_source(folder / "a")


@pytest.mark.parametrize(
    "content", [b"[" * (3 << 20), b"[],".join([b"["] + [b""] * (1 << 20)), b'{"format": 1, "x": 1e999}', b"1" * 9999]
)
def test_json_that_is_deep_or_long_or_large(tmp_path, cheap, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    assert "config.json" in cheap(lambda: checkpoint.load_encoder(tmp_path))
    written(path, content, zeros=GIB)
    assert "bytes, which no file of a run has" in cheap(lambda: checkpoint.load_encoder(tmp_path))


def test_configurations_of_encoders_that_are_larger_than_their_weights(tmp_path, cheap):
    checkpoint.save_encoders(tmp_path, {"student": encoders.build("mlp", channels=1, image_size=8, hidden=[4])})
    written_config = json.loads((tmp_path / "config.json").read_text())
    for options in ({"hidden": [10**6, 10**6]}, {"hidden": [20_000] * 3}, {"image_size": 10**6}, {"hidden": [1] * 999}):
        config = {**written_config["networks"]["student"], **options}
        (tmp_path / "config.json").write_text(json.dumps({**written_config, "networks": {"student": config}}))
        assert "encoder" in cheap(lambda: checkpoint.load_encoder(tmp_path))


def test_heads_of_weights_that_are_large(tmp_path, cheap):
    path = tmp_path / "x.safetensors"
    written(path, (90 << 20).to_bytes(8, "little"), b"{", zeros=90 << 20)
    assert "a header of 94,371,840 bytes" in cheap(lambda: checkpoint.read_tensors(path))
    many = {f"{i:x}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(40_000)}
    many["__metadata__"] = {"sanslabel": json.dumps({"shared": dict.fromkeys(map(str, range(9999)), "gone")})}
    head = json.dumps(many, separators=(",", ":")).encode()
    written(path, len(head).to_bytes(8, "little"), head)
    assert "cannot be read ('gone')" in cheap(lambda: checkpoint.read_tensors(path))


def test_a_tiff_that_unpacks_to_more_than_its_pixels(tmp_path, cheap):
    """Its one strip unpacks to 1 GB, and its pixels take 2 kB."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(1024)) + packer.flush()
    count, end = 10, 8 + 2 + 10 * 12 + 4
    tags = [(256, 3, 1, 16), (257, 3, 1, 16), (258, 3, 1, 16), (259, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, end)]
    tags += [(277, 3, 1, 4), (278, 3, 1, 16), (279, 4, 1, len(packed)), (339, 3, 1, 1)]
    content = struct.pack("<2sHIH", b"II", 42, 8, count) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    path = written(tmp_path / "x.tif", content, bytes(4), packed)
    assert "unpack to more than" in cheap(lambda: picture(path, 4, 64, ((0.0, 1.0),) * 4), Unreadable)


def test_a_sound_that_announces_more_than_it_has(tmp_path, peak):
    """Its header states 64 channels and 4 GiB of samples, and 4 KiB follow."""
    pytest.importorskip("soundfile")
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        2**32 - 1,
        b"WAVE",
        b"fmt ",
        16,
        1,
        64,
        16_000,
        2_048_000,
        128,
        16,
        b"data",
        2**32 - 200,
    )
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.wav").write_bytes(head + bytes(range(1, 129)) * 32)
    opened = []
    assert peak(lambda: opened.append(open_source(tmp_path / "set"))) < MOST
    assert len(opened[0]) == 1
    assert int(opened[0].waves.ends[-1]) == 32
