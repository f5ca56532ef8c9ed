"""Which files of a folder count, and when an earlier listing is believed."""

import os
from pathlib import Path

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
    files = listing(root)
    assert files == ["b/10.webp", "b/2.JPG", "b/c/d/e.tiff", "x.gif", "y.bmp", "z.png"]
    assert listing(touched(tmp_path / "none", "notes.txt")) == []


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
    assert listing(root) == ["b/1.png", "file.png", "out/2.png"]


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert listing(touched(tmp_path, "a.png")) == ["a.png"]


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
    assert fresh[2].encode(errors="surrogateescape") == b"caf\xe9.png"


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
    assert listing(folder) == sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*.png") if path.is_file()
    )


@pytest.mark.parametrize("content", [b"", b"damaged", None])
def test_a_memory_that_is_not_whole_is_not_believed(folder, cache, content):
    (memory,) = (cache / "listings").iterdir()
    memory.write_bytes(memory.read_bytes()[:200] if content is None else content)
    assert len(listing(folder)) == 3


def test_a_newer_format_is_not_believed(folder, monkeypatch):
    monkeypatch.setattr(module, "FORMAT", 2)
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    assert len(listing(folder)) == 3
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
    assert listing(root) == ["1.png"]
