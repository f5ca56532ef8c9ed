"""Tar archives: the samples of the folder that they would be unpacked to, bit for bit."""

import io
import json
import os
import random
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sanslabel
from sanslabel import checkpoint
from sanslabel.errors import BadInput
from sanslabel.sources import batches, open_source, ordered, splits
from sanslabel.sources.pictures import cache as cache_module
from sanslabel.sources.pictures.cache import cached
from sanslabel.sources.stores import tar as tar_store
from sanslabel.sources.stores import tar_index
from sanslabel.sources.stores.tar import OPEN
from sanslabel.sources.stores.tar_headers import members

CPU = torch.device("cpu")
BAD = ("a/03.png", "b/20.png")


@pytest.fixture
def photos(tmp_path) -> Path:
    """Returns a folder of 40 images of several shapes in two classes, two of which cannot be read."""
    draw = np.random.default_rng(0)
    for row in range(40):
        path = tmp_path / "photos" / "ab"[row // 20] / f"{row:02}.{'jpg' if row % 4 == 2 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (12 + row % 3 * 9, 40 - row % 5 * 6, 3), np.uint8)).save(path)
    for name in BAD:
        (tmp_path / "photos" / name).write_bytes(b"damaged")
    return tmp_path / "photos"


def packed(folder: Path, archive: Path, names: list[str] | None = None, how: int = tarfile.PAX_FORMAT) -> Path:
    """Packs files of a folder, in a random order if none is given."""
    names = names or random.Random(0).sample(files := sorted(files_in(folder)), len(files))
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w", format=how) as tar:
        for name in names:
            tar.add(folder / name, f"./{name}" if how == tarfile.GNU_FORMAT else name)
    return archive


def files_in(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def written(archive: Path, contents: dict[str, bytes], **changes) -> Path:
    """Writes members with these contents; `changes` are attributes of all of them."""
    with tarfile.open(archive, "w") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for attribute, value in changes.items():
                setattr(member, attribute, value)
            tar.addfile(member, io.BytesIO(content))
    return archive


def png(color: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (color, 0, 0)).save(file, "PNG")
    return file.getvalue()


def read(source, workers=0, start=0):
    """Returns all that two epochs hand over, and the samples reported as bad."""
    reported = []
    options = dict(seed=3, epochs=2, start=start, workers=workers, device=CPU)
    return list(batches(source, 8, report=lambda *bad: reported.append(bad), **options)), sorted(reported)


def assert_same_source(one, other, same) -> None:
    assert [one.id(row) for row in range(len(one))] == [other.id(row) for row in range(len(other))]
    assert (one.classes, one.inputs, one.fingerprint) == (other.classes, other.inputs, other.fingerprint)
    assert torch.equal(one.labels, other.labels)
    assert same(read(one), read(other))


@pytest.mark.parametrize("how", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_an_archive_is_its_folder(photos, tmp_path, same, how):
    archive = packed(photos, tmp_path / "p" / "photos.tar", how=how)
    folder, tar = open_source(photos, image_size=16), open_source(archive, image_size=16)
    assert tar.name == "photos"
    assert [name for name, _ in read(tar)[1]] == sorted(BAD)
    assert_same_source(tar, folder, same)
    assert same(list(ordered(tar, 16, device=CPU)), list(ordered(folder, 16, device=CPU)))
    chosen = torch.tensor([7, 3, 30])
    assert_same_source(tar.subset(chosen), folder.subset(chosen), same)
    assert splits(archive) == ("train",)


def test_shards_are_their_folder_with_workers_and_caches(photos, tmp_path, same, monkeypatch):
    monkeypatch.setattr(cache_module, "SETTLED", 0)
    names = sorted(files_in(photos))
    for number in range(3):
        packed(photos, tmp_path / "shards" / f"{number:04}.tar", names[number::3])
    folder, tar = open_source(photos, image_size=16), open_source(tmp_path / "shards", image_size=16)
    assert_same_source(tar, folder, same)
    expected = read(folder)
    assert same(read(tar, workers=2), expected)
    assert same(read(tar, start=3)[0], expected[0][3:])
    for kind in ("ram", "disk"):
        result = cached(tar, kind, 0)
        assert not result.decodes
        assert same(read(result), expected)
    packed(photos, tmp_path / "shards" / "0002.tar", names[2:12:3])  # fewer
    assert len(open_source(tmp_path / "shards", image_size=16)) < 40


def test_training_and_test_images_are_in_folders_of_an_archive_or_of_archives(photos, tmp_path, same):
    divided = tmp_path / "divided"
    divided.mkdir()
    (photos / "a").rename(divided / "train")
    (photos / "b").rename(divided / "val")
    for split in ("train", "val"):
        for row, path in enumerate(sorted((divided / split).iterdir())):
            (divided / split / "xy"[row % 2]).mkdir(exist_ok=True)
            path.rename(divided / split / "xy"[row % 2] / path.name)
    archive = packed(divided, tmp_path / "one.tar")
    for split in ("train", "val"):
        packed(divided / split, tmp_path / "shards" / split / "0.tar")
    for data in (archive, tmp_path / "shards"):
        assert splits(data) == ("train", "test")
        for split in ("train", "test", "all"):
            folder = open_source(divided, split, image_size=16)
            assert_same_source(open_source(data, split, image_size=16), folder, same)


def labeled(suffix: str) -> dict[str, bytes]:
    """Returns samples with labels 10, 9 and 2, and one without."""
    contents = {}
    for row, label in enumerate(["10", "9", None, "2"]):
        contents[f"n/{row}.x.png"] = png(row)
        if label and suffix == "cls":
            contents[f"n/{row}.cls"] = f"{label}\n".encode()
        elif label:
            contents[f"n/{row}.json"] = json.dumps({("label", "cls")[row % 2]: int(label), "url": "x"}).encode()
    return contents


@pytest.mark.parametrize("suffix", ["cls", "json"])
@pytest.mark.parametrize("order", ["together", "apart"])
def test_labels_of_webdataset(tmp_path, suffix, order):
    contents = labeled(suffix)
    if order == "apart":
        contents = dict(sorted(contents.items(), key=lambda item: item[0].endswith(".png")))
    source = open_source(written(tmp_path / "x.tar", contents))
    assert source.classes == ("2", "9", "10")
    assert source.labels.tolist() == [2, 1, -1, 0]
    assert [source.id(row) for row in range(4)] == [f"n/{row}.x.png" for row in range(4)]


def test_labels_may_be_names_and_what_is_none_is_left_out(tmp_path):
    contents = {f"{row}.png": png(row) for row in range(7)}
    labels = [b"cat", b"\xff\xfe", b"", b"dog ", b"x" * (1 << 17), b"cat", b"\0"]
    contents |= {f"{row}.cls": label for row, label in enumerate(labels)}
    contents["6.json"] = b"[" * 100_000
    source = open_source(written(tmp_path / "x.tar", contents))
    assert source.classes == ("cat", "dog")
    assert source.labels.tolist() == [0, -1, -1, 1, -1, 0, -1]


@pytest.mark.parametrize("how", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_large_sizes_are_read_as_tarfile_does(tmp_path, how):
    names = ["a" * 90 + "/" + "b" * 120 + ".png", "ü/" + "é" * 200 + ".png", "x.png"]
    with tarfile.open(tmp_path / "x.tar", "w", format=how) as tar:
        for number, name in enumerate(names):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(png(number)), 2**40  # which no octal field holds
            member.uid = 2**40
            tar.addfile(member, io.BytesIO(png(number)))
        folder = tarfile.TarInfo("folder/")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    source = open_source(tmp_path / "x.tar")
    assert [source.id(row) for row in range(3)] == sorted(names)
    with tarfile.open(tmp_path / "x.tar") as tar, (tmp_path / "x.tar").open("rb") as file:
        expected = [(member.name, member.offset_data, member.size) for member in tar if member.isreg()]
        assert [tuple(member)[:3] for member in members(file.fileno()) if member.is_file] == expected


def test_names_that_lead_elsewhere_links_and_devices_are_left_out(tmp_path):
    archive = tmp_path / "x.tar"
    with tarfile.open(archive, "w") as tar:
        for name in ("../up.png", "a/../../up.png", "/etc/x.png", "ok.png", "._ok.png", ".hidden/1.png", "line\n.png"):
            member = tarfile.TarInfo(name)
            member.size = len(png())
            tar.addfile(member, io.BytesIO(png()))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo(f"{kind.decode()}.png")
            member.type, member.linkname, member.size = kind, "/etc/passwd", 0
            tar.addfile(member)
        for name in ("x/", ".", "./"):
            tar.addfile(tarfile.TarInfo(name), None)
    with pytest.warns(UserWarning, match="left out") as warned:
        source = open_source(archive)
    assert [source.id(row) for row in range(len(source))] == ["ok.png"]
    messages = sorted({str(warning.message) for warning in warned})
    assert ": images left out of the archives: 4 (names that lead elsewhere)" in messages[0]
    assert ": images left out of the archives: 5 (links, devices or other special files)" in messages[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.tar"]


def test_of_doubled_names_the_last_counts_and_two_archives_are_refused(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for color in (10, 90):
            member = tarfile.TarInfo("a.png")
            member.size = len(png(color))
            tar.addfile(member, io.BytesIO(png(color)))
    source = open_source(tmp_path / "x.tar")
    assert len(source) == 1
    (batch,) = ordered(source, 1, device=CPU)
    assert batch.images().pixels[0, 0, 0, 0] == 90
    (tmp_path / "two").mkdir()
    for name in ("0.tar", "1.tar"):
        written(tmp_path / "two" / name, {"a.png": png()})
    with pytest.raises(BadInput, match=r"two: 0.tar and 1.tar both hold a.png; give each"):
        open_source(tmp_path / "two")


@pytest.mark.parametrize("length", [100, 700, 512 + 20, 1024, 1600])
def test_archives_that_are_cut_off_are_refused(tmp_path, length):
    archive = written(tmp_path / "x.tar", {"a.png": png() + bytes(600), "b.png": png()})
    os.truncate(archive, length)
    with pytest.raises(BadInput, match=r"x\.tar is cut off or damaged \(.*\); fetch or pack it again"):
        open_source(archive)


def test_an_archive_that_ends_without_its_mark_is_read_with_a_warning(tmp_path):
    """Some programs write none; it may have been cut off between two members."""
    archive = written(tmp_path / "x.tar", {"a.png": png(), "b.png": png()})
    os.truncate(archive, 1024)
    with pytest.warns(UserWarning, match=r"x\.tar has no mark at its end; if it was cut off, fetch it again"):
        assert len(open_source(archive)) == 1


@pytest.mark.parametrize(
    ("name", "mode", "packer"), [("x.tar", "w:gz", "gzip"), ("x.tar.bz2", "w:bz2", "bzip2"), ("x.tar", "w:xz", "xz")]
)
def test_compressed_archives_are_refused(tmp_path, name, mode, packer):
    with tarfile.open(tmp_path / name, mode) as tar:
        tar.addfile(tarfile.TarInfo("a.png"))
    with pytest.raises(BadInput, match=f"{name} is compressed by {packer}.*decompress it first"):
        open_source(tmp_path / name)


def test_what_is_no_archive_or_holds_no_images_is_refused(tmp_path):
    (tmp_path / "text.tar").write_bytes(b"no archive" * 100)
    with pytest.raises(BadInput, match=r"text\.tar is cut off or damaged \(it is no tar archive\)"):
        open_source(tmp_path / "text.tar")
    (tmp_path / "empty.tar").write_bytes(b"")
    for archive in (tmp_path / "empty.tar", written(tmp_path / "x.tar", {"a.txt": b"x"})):
        with pytest.raises(BadInput, match="holds no images"):
            open_source(archive)


def test_negative_sizes_do_not_lead_back(tmp_path):
    archive = written(tmp_path / "x.tar", {"a.png": png(), "b.png": png()})
    content = bytearray(archive.read_bytes())
    for size in (b"-0000000777\0", b"\xff" * 12, b"\x80" + b"\xff" * 11, b"0o000001000\0"):
        content[124:136] = size
        content[148:156] = b"%06o\0 " % (sum(content[:148]) + 256 + sum(content[156:512]))
        archive.write_bytes(content)
        os.utime(archive, ns=(1, 1 + content[125]))
        with pytest.raises(BadInput, match=r"x\.tar is cut off or damaged"):
            open_source(archive)


def test_a_folder_with_images_or_other_folders_is_one_of_images(photos, tmp_path):
    packed(photos, photos / "all.tar")
    assert open_source(photos, image_size=16).id(0) == "a/00.png"
    assert len(open_source(photos, image_size=16)) == 40


@pytest.fixture
def remembered(photos, tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(tar_index, "REMEMBERED_FROM", 2)
    archive = packed(photos, tmp_path / "photos.tar")
    os.utime(archive, ns=(10**18, 10**18))
    open_source(archive, image_size=16)
    tar_index._index_in_memory.cache_clear()
    return archive


def refuse(*_):
    raise AssertionError("looked up again")


def test_an_index_is_remembered(remembered, same, cache, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(tar_index, "members", refuse)
        kept = open_source(remembered, image_size=16)
    for file in (cache / "archives").iterdir():
        file.unlink()
    tar_index._index_in_memory.cache_clear()
    assert_same_source(kept, open_source(remembered, image_size=16), same)


@pytest.mark.parametrize("change", ["size", "time", "format", "cut", "empty"])
def test_an_index_that_does_not_fit_is_made_anew(remembered, cache, monkeypatch, change):
    (file,) = (cache / "archives").iterdir()
    if change == "size":
        with remembered.open("ab") as archive:
            archive.write(bytes(512))
        os.utime(remembered, ns=(10**18, 10**18))
    elif change == "time":
        os.utime(remembered, ns=(10**18, 10**18 + 1))
    elif change == "format":
        monkeypatch.setattr(tar_index, "FORMAT", 2)
    else:
        file.write_bytes(file.read_bytes()[:900] if change == "cut" else b"")
    looked = []
    monkeypatch.setattr(tar_index, "members", lambda descriptor: looked.append(descriptor) or members(descriptor))
    assert len(open_source(remembered, image_size=16)) == 40
    assert looked


def test_old_indices_are_removed(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(tar_index, "REMEMBERED_FROM", 1)
    monkeypatch.setattr(tar_index, "KEPT", 3)
    for number in range(5):
        archive = written(tmp_path / f"{number}.tar", {"a.png": png()})
        os.utime(archive, ns=(10**18, 10**18))
        open_source(archive)
    assert len(list((cache / "archives").iterdir())) == 3


def test_an_archive_that_changes_under_a_run_ends_it(photos, tmp_path):
    archive = packed(photos, tmp_path / "photos.tar")
    source = open_source(archive, image_size=16)
    os.utime(archive, ns=(1, 1))
    with pytest.raises(BadInput, match=r"photos\.tar has changed since it was opened; start again"):
        list(batches(source, 8, seed=0, epochs=1, device=CPU))


def test_few_archives_are_open_at_a_time(tmp_path):
    (tmp_path / "many").mkdir()
    for number in range(OPEN + 20):
        written(tmp_path / "many" / f"{number:03}.tar", {f"{number:03}.png": png(number)})
    source = open_source(tmp_path / "many")
    colors = torch.cat([batch.images().pixels[:, 0, 0, 0] for batch in ordered(source, 7, device=CPU)])
    assert colors.tolist() == list(range(OPEN + 20))
    assert len(tar_store._ARCHIVES.archives) == OPEN


def test_a_run_trains_resumes_and_evaluates_as_on_its_folder(photos, tmp_path):
    """A run on the archive goes on from a run on the folder, since they are the same data."""
    archive = packed(photos, tmp_path / "photos.tar")
    options = dict(encoder="mlp", image_size=16, epochs=2, batch=16, precision="float32", device="cpu", workers=0)
    weights, scores, runs = [], [], [tmp_path / "of-folder", tmp_path / "of-archive"]
    for data, run in zip((photos, archive), runs, strict=True):
        weights.append(sanslabel.train(data, out=run, cache="none", **options).encoder().state_dict())
        scores.append(sanslabel.evaluate(run, data=data, protocols=["knn"], baselines=False))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    values = [[(score.protocol, score.representation, score.value) for score in of_run] for of_run in scores]
    assert values[0] == values[1]
    shutil.rmtree(checkpoint.newest(runs[0] / "checkpoints"))
    again = sanslabel.resume(runs[0], data=archive).encoder().state_dict()
    assert all(torch.equal(weights[0][name], again[name]) for name in weights[0])
