"""PictureFile pictures that are kept: the same bits, never those of another file, and no reason to stop."""

import errno
import fcntl
import os
import re
import shutil
import threading
import time
import warnings
from collections import namedtuple
from multiprocessing import active_children

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from sanslabel.heartbeat import Heartbeat
from sanslabel.sources import batches, open_source, progress
from sanslabel.sources.pictures import cache as module
from sanslabel.sources.pictures import images as images_module
from sanslabel.sources.pictures.cache import cached, fitting
from sanslabel.sources.pictures.images import ImagesFrom

CPU = torch.device("cpu")
BAD = ("a/03.png", "a/04.png", "b/20.png")


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    """Files of a test are too young to be believed, and would be waited for."""
    monkeypatch.setattr(module, "SETTLED", 0)


@pytest.fixture
def photos(tmp_path):
    """60 images of several shapes, larger and smaller than they are decoded to; three cannot be read."""
    random = np.random.default_rng(0)
    for row in range(60):
        path = tmp_path / "photos" / "ab"[row // 20 % 2] / f"{row:02}.{'jpg' if row % 4 == 2 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (12 + row % 3 * 9, 40 - row % 5 * 6, 3), np.uint8)).save(path)
    for name in BAD:
        (tmp_path / "photos" / name).write_bytes(b"damaged")
    return tmp_path / "photos"


def opened(root, image_size=16, **options) -> ImagesFrom:
    source = open_source(root, image_size=image_size, **options)
    assert isinstance(source, ImagesFrom)
    return source


def key(source) -> str:
    return module._key(source, Heartbeat())


def kept(source, kind, workers=0) -> ImagesFrom:
    result = cached(source, kind, workers)
    assert isinstance(result, ImagesFrom)
    return result


def read(source, start=0, workers=0):
    """All that two epochs hand over, and the samples reported as bad."""
    reported = []
    options = dict(seed=3, epochs=2, start=start, workers=workers, device=CPU)
    result = list(batches(source, 8, report=lambda *bad: reported.append(bad), **options))
    return result, sorted(reported)


@pytest.fixture
def assert_same(same):
    def assert_same(one, other) -> None:
        assert one[1] == other[1]
        assert same(one[0], other[0])

    return assert_same


def files(cache):
    return sorted(path for path in (cache / "pictures").iterdir())


def refuse(*_):
    raise AssertionError("decoded again")


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_batches_are_the_same_bits(photos, kind, monkeypatch, assert_same):
    source = opened(photos)
    expected = read(source)
    assert [name for name, _ in expected[1]] == sorted(BAD)
    assert any(batch.images().sizes is not None for _, batch in expected[0])
    result = kept(source, kind)
    monkeypatch.setattr(images_module, "picture", refuse)
    assert_same(read(result), expected)
    assert_same(read(result, start=5), (expected[0][5:], read(result, start=5)[1]))
    assert not result.decodes
    stream = batches(result, 8, seed=3, epochs=2, workers=2, device=CPU)
    next(stream)
    assert active_children() == []  # where nothing is decoded
    assert result.subset(torch.tensor([1, 2])).cache is None


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_worker_processes_make_it_and_read_it(photos, kind, monkeypatch, assert_same):
    source = opened(photos)
    expected = read(source)
    monkeypatch.setattr(module, "ALONE", 0)
    monkeypatch.setattr(module, "cores", lambda: 1)
    fits = iter([True] * 30 + [False])
    monkeypatch.setattr(module, "PIECE", 1)
    monkeypatch.setattr(module, "_fits", lambda *_: next(fits))
    with pytest.warns(
        UserWarning, match=r"photos: 30 of 60 pictures are decoded each time, since a cache uses at most half"
    ):
        result = kept(source, kind, workers=1)
    assert result.decodes
    for workers in (0, 1):
        assert_same(read(result, workers=workers), expected)


def test_a_second_run_reads_what_the_first_has_left(photos, cache, monkeypatch, assert_same):
    expected = read(opened(photos))
    kept(opened(photos), "disk")
    (file,) = files(cache)
    assert file.stat().st_mode & 0o077 == 0
    os.utime(file, ns=(1, 1))
    monkeypatch.setattr(images_module, "picture", refuse)
    result = kept(opened(photos, channels=3), "disk")
    assert_same(read(result), expected)
    assert file.stat().st_mtime_ns > 1  # used now


def test_a_changed_file_is_never_served_stale(photos, cache, assert_same):
    source = opened(photos)
    stale = read(kept(source, "disk"))
    path = photos / source.id(30)
    before, pixels = path.stat(), np.asarray(Image.open(path))
    content = path.read_bytes()
    Image.fromarray(255 - pixels).save(path)
    changed = path.read_bytes()
    size = max(len(content), len(changed))
    path.write_bytes(changed.ljust(size, b"\0"))  # longer than a PNG needs to be, and of the same size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    again = opened(photos)
    assert_same(read(kept(again, "disk")), read(again))
    assert any(
        not torch.equal(a.images().pixels, b.images().pixels)
        for (_, a), (_, b) in zip(stale[0], read(again)[0], strict=True)
    )
    assert len(files(cache)) == 2
    kept(open_source(photos, image_size=24), "disk")
    kept(opened(photos, channels=1), "disk")
    assert len(files(cache)) == 4


def test_a_file_that_changed_just_now_is_waited_for(photos, monkeypatch):
    monkeypatch.setattr(module, "SETTLED", 300_000_000)
    (photos / "a/00.png").touch()
    began = time.monotonic()
    kept(opened(photos), "disk")
    assert time.monotonic() - began > 0.2


@pytest.mark.parametrize("damage", ["cut", "empty", "table", "kind"])
def test_a_file_that_is_not_whole_is_made_anew(photos, cache, damage, assert_same):
    source = opened(photos)
    expected = read(kept(source, "disk"))
    (file,) = files(cache)
    content = bytearray(file.read_bytes())
    if damage == "cut":
        del content[-10:]
    elif damage == "table":
        content[-200] ^= 1
    elif damage == "kind":
        content[-70] ^= 1
    file.write_bytes(b"" if damage == "empty" else content)
    with pytest.warns(UserWarning, match="is damaged .* and is made anew"):
        result = kept(source, "disk")
    assert_same(read(result), expected)
    assert len(files(cache)) == 1


@pytest.mark.parametrize("damage", ["flipped", "cut", "refused"])
def test_pixels_that_cannot_be_had_are_decoded(photos, cache, damage, monkeypatch, assert_same):
    source = opened(photos)
    expected = read(source)
    result = kept(source, "disk")
    (file,) = files(cache)
    if damage == "flipped":
        with file.open("r+b") as content:
            content.seek(5000)
            byte = content.read(1)[0]
            content.seek(5000)
            content.write(bytes([byte ^ 1]))
    elif damage == "cut":
        os.truncate(file, 5000)
    else:

        def refused(*_):
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "preadv", refused)
    with pytest.warns(UserWarning, match="a cache of pictures is damaged") as warned:
        got = read(result)
    assert_same(got, expected)
    assert len(warned) == 1


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_what_does_not_fit_is_decoded_each_time(photos, kind, monkeypatch, assert_same):
    source = opened(photos)
    expected = read(source)
    monkeypatch.setattr(module, "PIECE", 10)
    monkeypatch.setattr(module, "free_memory", lambda: 40_000)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage(10**6, 10**6 - 40_000, 40_000))
    with pytest.warns(UserWarning, match=r"photos: \d\d of 60 pictures are decoded each time") as warned:
        result = kept(source, kind)
    assert ("remove " in str(warned[0].message)) == (kind == "disk")
    assert result.cache is not None
    assert 0 < result.cache.absent < 60
    assert result.cache.size <= 40_000
    assert_same(read(result), expected)
    assert_same(read(result, workers=1), expected)


@pytest.mark.parametrize("room", [20_000, 100])
@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_a_full_disk_is_no_reason_to_stop(photos, cache, kind, room, monkeypatch, assert_same):
    source = opened(photos)
    expected = read(source)
    pwrite = os.pwrite

    def full(descriptor, content, offset):
        if offset + len(content) > room + (3000 if len(content) < 3000 else 0):
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(descriptor, content, offset)

    monkeypatch.setattr(module, "PIECE", 10)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.warns(UserWarning, match="pictures are decoded each time"):
        result = kept(source, kind)
    assert_same(read(result), expected)
    monkeypatch.setattr(os, "pwrite", lambda *_: full(0, b"", 10**9))
    with pytest.warns(UserWarning, match=rf"cache='{kind}' is not possible \(No space left on device\)"):
        assert kept(opened(photos, channels=1), kind).cache is None
    assert kind == "ram" or [path.suffix for path in files(cache)] == [""]


@pytest.mark.parametrize("lacking", ["memfd_create", "preadv"])
def test_other_systems_go_without(photos, lacking, monkeypatch):
    monkeypatch.delattr(os, lacking)
    with pytest.warns(UserWarning, match=r"cache='ram' is not possible \(not on "):
        assert kept(opened(photos), "ram").cache is None


def test_a_cache_folder_that_cannot_be_made_is_told_of(photos, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cache='disk' is not possible"):
        assert kept(opened(photos), "disk").cache is None


@pytest.mark.parametrize("reason", [OSError(errno.EIO, "Input/output error"), MemoryError()])
def test_what_the_system_refuses_is_asked_for_again(photos, monkeypatch, reason, assert_same):
    """A network that is away while the cache is made must not make its files unreadable for ever."""
    source, decode = opened(photos), images_module.picture
    expected = read(source)

    def away(file, *rest):
        if source.id(file.args[0]) in {"a/10.jpg", "a/11.png"}:
            raise module.Unreadable("it is away") from reason
        return decode(file, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(images_module, "picture", away)
        result = kept(source, "ram")
    assert result.cache is not None
    assert (result.cache.absent, result.cache.unfitting) == (2, 0)
    assert_same(read(result), expected)


class Deadly:
    """Ends the process that it is sent to."""

    def __reduce__(self):
        return os.abort, ()


@pytest.mark.parametrize("workers", [0, 1])
def test_what_cannot_be_made_is_done_without(photos, monkeypatch, workers, assert_same):
    """Neither processes that die nor memory that runs out stop a run."""
    source = opened(photos)
    expected = read(source)
    monkeypatch.setattr(module, "ALONE", 0)
    monkeypatch.setattr(module, "cores", lambda: 1)
    why = "MemoryError"
    if workers:
        object.__setattr__(source, "deadly", Deadly())
        monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.2,))
        why = "photos: worker process .* died"
    else:

        def full(*_):
            raise MemoryError

        monkeypatch.setattr(module, "zeros", full)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        result = kept(source, "ram", workers)
    assert re.match(rf"photos: cache='ram' is not possible \({why}", str(warned[-1].message))
    assert result.cache is None
    monkeypatch.undo()
    assert_same(read(result), expected)


def test_a_killed_build_leaves_nothing_that_counts(photos, cache, monkeypatch, assert_same):
    source = opened(photos)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_is_at", lambda *_: True)  # as if there were nobody to clear away

        def killed(path):
            raise KeyboardInterrupt

        patch.setattr(module.Path, "unlink", lambda _: None)
        patch.setattr(module.PictureWriter, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            kept(source, "disk")
    (unfinished,) = files(cache)
    assert unfinished.suffix == ".part"
    assert unfinished.stat().st_size > 0
    other = unfinished.with_name("other.part")
    shutil.copy(unfinished, other)
    result = kept(source, "disk")
    assert_same(read(result), read(source))
    assert [path.suffix for path in files(cache)] == [""]  # that of another folder is gone, too


def test_an_interrupted_build_clears_away(photos, cache, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.PictureWriter, "append", interrupted)
    for kind in ("disk", "ram"):
        with pytest.raises(KeyboardInterrupt):
            kept(opened(photos), kind)
    assert files(cache) == []


def test_who_comes_while_it_is_made_waits(photos, cache, monkeypatch, capsys):
    monkeypatch.setattr(module, "POLL", 0.05)
    source = opened(photos)
    place = cache / "pictures" / key(source)
    place.parent.mkdir(parents=True)
    maker = os.open(place.with_suffix(".part"), os.O_RDWR | os.O_CREAT)
    fcntl.flock(maker, fcntl.LOCK_EX)
    result = []
    thread = threading.Thread(target=lambda: result.append(kept(source, "disk")))
    thread.start()
    time.sleep(0.3)
    assert result == []
    assert place.with_suffix(".part").exists()  # not taken for one that was left behind
    os.close(maker)
    thread.join(20)
    assert result[0].cache.absent == 0
    assert capsys.readouterr().err.count("photos: waiting for another process, which decodes these pictures") == 1


def test_of_old_caches_the_least_recently_used_go_first(photos, cache, monkeypatch):
    source = opened(photos)
    kept(source, "disk")
    (first,) = files(cache)
    size = first.stat().st_size
    for number, name in enumerate(("old", "older", "new")):
        shutil.copy(first, first.with_name(name))
        os.utime(first.with_name(name), ns=(0, (2, 1, 3)[number]))
    usage = namedtuple("usage", "total used free")
    free = int(2.5 * size)
    total = sum(path.stat().st_size for path in files(cache))

    def disk(folder):
        taken = sum(path.stat().st_size for path in first.parent.iterdir())
        return usage(10**9, 0, free + total - taken)

    monkeypatch.setattr(module.shutil, "disk_usage", disk)
    kept(opened(photos, channels=1), "disk")
    assert {path.name for path in files(cache)} >= {"new", first.name}
    assert not {path.name for path in files(cache)} & {"old", "older"}


def test_a_cache_that_is_read_makes_no_room(photos, cache, monkeypatch):
    """Its bytes would stay on the disk until it is closed."""
    result = kept(opened(photos), "disk")
    (first,) = files(cache)
    monkeypatch.setattr(module, "_fits", lambda wanted, taken, free: wanted < 1000)
    with pytest.warns(UserWarning, match="decoded each time"):
        kept(opened(photos, channels=1), "disk")
    assert first.exists()
    del result
    with pytest.warns(UserWarning, match="decoded each time"):
        kept(opened(photos, channels=1, image_size=24), "disk")
    assert not first.exists()


def test_a_disk_that_knows_no_locks_leaves_nothing_open(photos, cache, monkeypatch):
    def unknown(*_, **__):
        raise OSError(errno.ENOSYS, "Function not implemented")

    before = set(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(module, "_locked", unknown)
    with pytest.warns(UserWarning, match=r"cache='disk' is not possible \(Function not implemented\)"):
        assert kept(opened(photos), "disk").cache is None
    assert set(os.listdir("/proc/self/fd")) == before


def test_arrays_stay_as_they_are(cache):
    digits = open_source("digits")
    assert all(cached(digits, kind, 0) is digits for kind in ("ram", "disk", "none"))
    assert fitting(digits, 5) == "none"
    assert not cache.exists()


def test_main_memory_is_taken_where_there_is_plenty_and_it_pays(photos, monkeypatch):
    source = opened(photos)
    assert fitting(source, 1) == "none"
    assert fitting(source, 2) == "ram"
    exact = kept(source, "ram").cache
    assert exact is not None
    pixels = int(exact.table["offset"].max())
    assert 0.9 * pixels < source.pixel_bytes < 1.1 * pixels
    monkeypatch.setattr(module, "main_memory", lambda: 4 * source.pixel_bytes - 4)
    assert fitting(source, 2) == "none"


def test_progress_is_told_in_lines_where_there_is_no_terminal(photos, monkeypatch, capsys):
    monkeypatch.setattr(progress, "PAUSE", 0.0)
    monkeypatch.setattr(module, "PIECE", 20)
    kept(opened(photos), "ram")
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" decoded")[0] for line in lines] == [f"photos: {done} of 60" for done in (20, 40, 60)]
    assert lines[-1].endswith("0 s left")


def test_the_file_is_gone_with_the_source(photos):
    result = kept(opened(photos), "ram")
    assert result.cache is not None
    descriptor = result.cache.descriptor
    assert os.readlink(f"/proc/self/fd/{descriptor}").startswith("/memfd:sanslabel")
    del result
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
