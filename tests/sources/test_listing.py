"""Which files of a folder count, and when an earlier listing is believed."""

import os
from pathlib import Path

import numpy as np
import pytest

from sanslabel.errors import BadInput
from sanslabel.sources.stores import listing as module
from sanslabel.sources.stores.listing import listing


def touched(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    return root


def aged(root: Path, seconds: int = 100) -> None:
    """Moves the last change of every folder into the past."""
    for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
        changed = os.stat(folder).st_mtime_ns - seconds * 10**9
        os.utime(folder, ns=(changed, changed))


def test_images_at_any_depth_in_sorted_order(tmp_path):
    root = touched(
        tmp_path / "a", "b/2.JPG", "b/10.webp", "z.png", "b/c/d/e.tiff", "x.gif", "y.bmp", "notes.txt", "raw"
    )
    touched(root, ".hidden.png", ".thumbnails/1.png", "._z.png")
    (root / "folder.png").mkdir()
    files = listing(root).names
    assert files == ["b/10.webp", "b/2.JPG", "b/c/d/e.tiff", "x.gif", "y.bmp", "z.png"]
    assert listing(touched(tmp_path / "none", "notes.txt")).names == []


def test_links_are_followed_once_and_circles_are_harmless(tmp_path):
    root, outside = touched(tmp_path / "a", "b/1.png"), touched(tmp_path / "o", "2.png")
    (root / "b/up").symlink_to(root)
    (root / "self").symlink_to(root / "self")
    (root / "self.png").symlink_to("self.png")
    (root / "broken.png").symlink_to("nowhere.png")
    (root / "aa").symlink_to(root / "b")
    (root / "out").symlink_to(outside)
    (outside / "back").symlink_to(root)
    (root / "file.png").symlink_to(outside / "2.png")
    assert listing(root).names == ["b/1.png", "file.png", "out/2.png"]


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert listing(touched(tmp_path, "a.png")).names == ["a.png"]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path):
    with pytest.raises(BadInput, match="missing cannot be listed"):
        listing(tmp_path / "missing")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Remembered already."""
    monkeypatch.setattr(module, "REMEMBERED_FROM", 2)
    root = touched(tmp_path / "a", "b/1.png", "b/c/2.png", os.fsdecode(b"caf\xe9.png"))
    aged(root)
    listing(root)
    return root


def refuse(path):
    raise AssertionError(f"{path} is listed again")


def test_a_remembered_listing_is_read_and_not_made_again(folder, monkeypatch, cache):
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        remembered = listing(folder)
    for file in (cache / "listings").iterdir():
        file.unlink()
    fresh = listing(folder)
    assert remembered == fresh
    assert fresh.names[2].encode(errors="surrogateescape") == b"caf\xe9.png"


@pytest.mark.parametrize("change", ["new", "deep", "gone", "renamed", "folder"])
def test_a_changed_folder_is_listed_again(folder, change):
    if change == "new":
        touched(folder, "3.png")
    elif change == "deep":
        touched(folder, "b/c/3.png")
    elif change == "gone":
        (folder / "b/1.png").unlink()
    elif change == "renamed":
        (folder / "b/1.png").rename(folder / "b/4.png")
    else:
        (folder / "b/c").rename(folder / "d")
    assert listing(folder).names == sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*.png") if path.is_file()
    )


@pytest.mark.parametrize("content", [b"", b"damaged", None])
def test_a_memory_that_is_not_whole_is_not_believed(folder, cache, content):
    (memory,) = (cache / "listings").iterdir()
    memory.write_bytes(memory.read_bytes()[:200] if content is None else content)
    assert len(listing(folder).names) == 3


def test_a_newer_format_is_not_believed(folder, monkeypatch):
    monkeypatch.setattr(module, "FORMAT", 2)
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    assert len(listing(folder).names) == 3
    assert listed


def test_few_files_and_fresh_folders_are_not_remembered(tmp_path, monkeypatch, cache):
    few = touched(tmp_path / "few", "1.png")
    aged(few)
    listing(few)
    monkeypatch.setattr(module, "REMEMBERED_FROM", 1)
    listing(touched(tmp_path / "fresh", "1.png"))
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_does_not_matter(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED_FROM", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    root = touched(tmp_path / "a", "1.png")
    aged(root)
    assert listing(root).names == ["1.png"]


def test_files_that_are_not_read_are_counted_by_suffix(tmp_path):
    root = touched(tmp_path, "1.png", "2.SVG", "3.svg", *(f"{row}.txt" for row in range(7)), "raw", ".hidden.txt")
    touched(root, "a/4.ogg", "a/5.ogg", "a/6.ogg", "x.dat", "y.dat", "z.wav")
    assert listing(root).remarks == ("Files that are not read: 2 SVG, 7 TXT, 3 OGG, 4 other.",)
    assert listing(touched(tmp_path / "clean", "1.png")).remarks == ()
    assert listing(touched(tmp_path / "odd", "a.\x1b[31m")).remarks == ("Files that are not read: 1 of another kind.",)


def test_a_table_may_state_labels(tmp_path):
    root = touched(tmp_path, "1.png", "labels.CSV", "notes.txt")
    offer = "If a table among them states labels, name it with --labels."
    assert listing(root).remarks == ("Files that are not read: 1 CSV, 1 TXT.", offer)
    assert listing(root).without(root, root / "labels.CSV").remarks == ("Files that are not read: 1 TXT.",)
    touched(root, "more.csv")
    assert listing(root).without(root, root / "labels.CSV").left_out == {".csv": 1, ".txt": 1}


def test_their_number_is_remembered(folder, monkeypatch, cache):
    touched(folder, "notes.txt", "b/3.svg", "b/4.HEIC")
    aged(folder)
    with pytest.warns(UserWarning, match="1 HEIC pictures"):
        fresh = listing(folder)
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.warns(UserWarning, match="1 HEIC pictures"):
        assert listing(folder) == fresh
    assert fresh.remarks == ("Files that are not read: 1 SVG, 1 HEIC, 1 TXT.",)


def test_a_memory_of_an_earlier_version_is_made_anew(folder, cache):
    (memory,) = (cache / "listings").iterdir()
    with np.load(memory) as content:
        old = {name: content[name] for name in content if name not in ("suffixes", "counts")}
    np.savez(memory, **old)
    assert len(listing(folder).names) == 3
