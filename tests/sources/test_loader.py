"""The order of samples, their keys, and the batches that come of them."""

import os
import signal
import subprocess
import sys
import time
from multiprocessing import active_children

import numpy as np
import pytest
import torch
from PIL import Image

from sanslabel import distributed
from sanslabel.errors import BadInput
from sanslabel.randomness import fold, permutation
from sanslabel.sources import Data, Request, batches, open_source, ordered

CPU = torch.device("cpu")
RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def digits():
    return open_source("digits")


@pytest.fixture
def folder(tmp_path):
    """40 images of two sizes in two classes."""
    for row in range(40):
        path = tmp_path / "photos" / "ab"[row % 2] / f"{row:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RANDOM.integers(0, 256, (8 + row % 3, 9, 3), np.uint8)).save(path)
    return tmp_path / "photos"


def test_order_and_keys_are_functions_of_seed_epoch_and_row(digits):
    batch, seed = 100, 7
    step = 0
    for clock, got in batches(digits, batch, seed=seed, epochs=2, device=CPU):
        epoch, position = divmod(step, len(digits) // batch)
        order = permutation(fold(seed, 2, epoch), len(digits)).tolist()
        rows = order[position * batch : (position + 1) * batch]
        assert clock == (seed, epoch, step, 2 * 14, 14)
        assert got.index.tolist() == rows
        assert got.key.tolist() == [fold(seed, 0, epoch, row) for row in rows]
        assert got.key.dtype == torch.int64
        assert got.labels().tolist() == [int(digits.labels[row]) for row in rows]
        assert torch.equal(got.images().pixels, digits.images[rows])
        assert got.images().sizes is None
        step += 1
    assert step == 28


def test_an_epoch_meets_every_sample_at_most_once(digits):
    rows = torch.cat([batch.index for _, batch in batches(digits, 64, seed=0, epochs=1, device=CPU)])
    assert len(rows) == 1438 // 64 * 64 == len(rows.unique())


@pytest.mark.parametrize("start", [0, 1, 13, 14, 15, 27, 28])
def test_starting_late_is_skipping(digits, same, start):
    everything = list(batches(digits, 100, seed=3, epochs=2, device=CPU))
    late = list(batches(digits, 100, seed=3, epochs=2, start=start, device=CPU))
    assert same(tuple(everything[start:]), tuple(late))


def test_starting_late_costs_nothing(digits):
    begin = time.perf_counter()
    next(batches(digits, 2, seed=3, epochs=10**9, start=10**11, device=CPU))
    assert time.perf_counter() - begin < 1


def test_shorter_epochs_and_larger_batches(digits):
    clocks = [clock for clock, _ in batches(digits, 100, seed=0, epochs=3, steps_per_epoch=4, device=CPU)]
    assert [(clock.epoch, clock.step, clock.steps, clock.steps_per_epoch) for clock in clocks[:5]] == [
        (0, 0, 12, 4),
        (0, 1, 12, 4),
        (0, 2, 12, 4),
        (0, 3, 12, 4),
        (1, 4, 12, 4),
    ]
    assert len(clocks) == 12
    assert len(list(batches(digits, 100, seed=0, epochs=1, steps_per_epoch=99, device=CPU))) == 14
    ((_, everything),) = batches(digits, 5000, seed=0, epochs=1, device=CPU)
    assert len(everything.images().pixels) == len(digits)


def test_processes_hold_slices_of_the_global_batch(digits, monkeypatch):
    (_, everything), (_, after) = list(batches(digits, 64, seed=0, epochs=1, device=CPU))[:2]
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    slices = []
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        slices.append([batch for _, batch in batches(digits, 64, seed=0, epochs=1, device=CPU)][:2])
    for step, expected in enumerate((everything, after)):
        for field in (lambda b: b.images().pixels, lambda b: b.labels(), lambda b: b.index, lambda b: b.key):
            assert torch.equal(torch.cat([field(slices[rank][step]) for rank in range(2)]), field(expected))
    with pytest.raises(BadInput, match="batch=65 cannot be shared by 2 processes"):
        batches(digits, 65, seed=0, epochs=1, device=CPU)
    odd = digits.subset(torch.arange(7))
    assert [len(batch.index) for _, batch in batches(odd, 64, seed=0, epochs=1, device=CPU)] == [3]
    with pytest.raises(BadInput, match="has 1 samples for 2 processes"):
        batches(digits.subset(torch.arange(1)), 64, seed=0, epochs=1, device=CPU)
    with pytest.raises(BadInput, match="batch=0"):
        batches(digits, 0, seed=0, epochs=1, device=CPU)


def test_ordered_is_once_through(digits):
    got = list(ordered(digits, 500, device=CPU))
    assert [len(batch.index) for batch in got] == [500, 500, 438]
    assert torch.equal(torch.cat([batch.index for batch in got]), torch.arange(1438))
    assert torch.equal(torch.cat([batch.images().pixels for batch in got]), digits.images)
    assert torch.equal(torch.cat([batch.labels() for batch in got]), digits.labels)
    assert got[0].key[5] == fold(0, 0, 0, 5)


def test_arrays_add_less_than_a_millisecond():
    fashion, times = open_source("fashion"), []
    begin = time.perf_counter()
    for _ in batches(fashion, 256, seed=0, epochs=4, device=CPU):
        times.append(time.perf_counter() - begin)
        begin = time.perf_counter()
    assert np.median(times) < 1e-3


def test_workers_do_not_show(folder, same):
    """Not in the batches, nor in torch's own generator; a Ctrl-C that reaches them is the main process's to handle."""
    source = open_source(folder)
    expected = list(batches(source, 6, seed=5, epochs=2, device=CPU))
    state = torch.get_rng_state()
    got, processes = [], []
    for pair in batches(source, 6, seed=5, epochs=2, workers=2, device=CPU):
        processes = processes or active_children()
        got.append(pair)
        for process in processes if len(got) > 1 else ():  # both have begun
            assert process.pid is not None
            os.kill(process.pid, signal.SIGINT)
    assert len(processes) == 2
    assert same(tuple(expected), tuple(got))
    assert torch.equal(torch.get_rng_state(), state)
    assert any(batch.images().sizes is not None for _, batch in got)
    assert all(len(batch.images().pixels) == 6 for _, batch in got)
    late = list(batches(source, 6, seed=5, epochs=2, start=7, workers=1, device=CPU))
    assert same(tuple(expected[7:]), tuple(late))
    assert same(tuple(ordered(source, 16, device=CPU)), tuple(ordered(source, 16, workers=1, device=CPU)))


def test_workers_end_with_the_generator(folder):
    stream = batches(open_source(folder), 6, seed=5, epochs=200, workers=1, device=CPU)
    next(stream)
    (process,) = active_children()
    stream.close()  # type: ignore[attr-defined]
    process.join(10)
    assert not process.is_alive()


@pytest.mark.faults
def test_an_error_that_ends_the_program_ends_its_workers(folder):
    """The error keeps the generator alive, and the interpreter waits for its children."""
    code = f"""
from sanslabel.sources import batches, open_source
import torch

if __name__ == "__main__":
    stream = batches(open_source({str(folder)!r}), 6, seed=5, epochs=200, workers=1, device=torch.device("cpu"))
    for batch in stream:
        raise RuntimeError("unexpected")
"""
    script = folder.parent / "script.py"
    script.write_text(code)
    ended = subprocess.run([sys.executable, str(script)], timeout=60, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "RuntimeError: unexpected" in ended.stderr


def test_a_batch_fits_its_rows(folder):
    source = open_source(folder)
    for _, batch in batches(source, 8, seed=1, epochs=1, device=CPU):
        for position, row in enumerate(batch.index.tolist()):
            alone = source.load(Request(torch.tensor([row]))).images.pixels
            height, width = alone.shape[2:]
            assert torch.equal(batch.images().pixels[position, :, :height, :width], alone[0])
            assert batch.labels()[position] == source.labels[row] == "ab".index(source.id(row)[0])


def test_bad_samples_are_replaced_and_reported_once(folder):
    for name in ("a/00.png", "a/02.png", "b/01.png"):
        (folder / name).write_bytes(b"damaged")
    source = open_source(folder)
    good = {row for row in range(40) if (folder / source.id(row)).stat().st_size > 7}
    reported = []
    for _, batch in batches(source, 10, seed=2, epochs=3, device=CPU, report=lambda *bad: reported.append(bad)):
        assert set(batch.index.tolist()) <= good
        assert torch.equal(batch.labels(), source.labels[batch.index])
        assert torch.equal(batch.key, fold(fold(2, 0, _.epoch), batch.index))
    assert sorted(name for name, _ in reported) == ["a/00.png", "a/02.png", "b/01.png"]
    assert {reason for _, reason in reported} == {"no JPEG, PNG, WebP, BMP, GIF or TIFF"}


def test_a_hundredth_of_bad_files_of_many_kinds_does_not_stop_a_run(tmp_path):
    pixels = RANDOM.integers(0, 256, (40, 30, 3), np.uint8)
    image, deep = Image.fromarray(pixels), Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    for row in range(391):
        Image.fromarray(RANDOM.integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / f"{row:03}.png")
    image.save(tmp_path / "whole.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "rotated.jpg", exif=exif)
    image.convert("CMYK").save(tmp_path / "cmyk.jpg")
    image.convert("RGBA").save(tmp_path / "alpha.webp")
    image.save(tmp_path / "misnamed.jpg", format="PNG")
    deep.save(tmp_path / "deep.png")
    deep.save(tmp_path / "deep.tiff")
    image.save(tmp_path / "animated.gif", save_all=True, append_images=[image.rotate(90)])
    image.resize((1, 1)).save(tmp_path / "one.bmp")
    (tmp_path / "around.png").symlink_to(tmp_path / "around.png")
    (tmp_path / "around").symlink_to(tmp_path)
    png = (tmp_path / "misnamed.jpg").read_bytes()
    bad = {
        "cut.jpg": (tmp_path / "whole.jpg").read_bytes()[:-200],
        "zero.png": b"",
        "text.jpg": b"<html>not found</html>",
        "bomb.png": png[:16] + b"\0\0\xc3\x50" * 2 + png[24:],
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    source, reported = open_source(tmp_path, image_size=16, channels=3), []
    assert len(source) == 404
    got = list(batches(source, 101, seed=0, epochs=2, device=CPU, report=lambda name, why: reported.append(name)))
    assert len(got) == 8
    assert sorted(reported) == sorted(bad)


def test_unreadable_files_are_skipped_where_that_is_wanted(folder):
    bad = [f"a/{row:02}.png" for row in range(0, 40, 4)]
    for name in bad:
        (folder / name).write_bytes(b"damaged")
    reported = []
    source = open_source(Data((folder,), skip_unreadable=True))
    steps = list(batches(source, 10, seed=0, epochs=1, device=CPU, report=lambda name, _: reported.append(name)))
    assert sorted(reported) == bad
    assert not {source.id(row) for _, batch in steps for row in batch.index.tolist()} & set(bad)
    with pytest.raises(
        BadInput, match=r"cannot be read: .*; add `skip_unreadable` to go on without them, or remove or"
    ):
        list(batches(open_source(folder), 10, seed=0, epochs=1, device=CPU))


@pytest.mark.parametrize("workers", [0, 1])
def test_more_than_one_percent_bad_stops_the_run(folder, workers):
    for row in range(0, 8, 2):
        (folder / f"a/{row:02}.png").write_bytes(b"damaged")
    (folder / "b/39.png").write_bytes(b"damaged")
    source = open_source(folder)
    with pytest.raises(BadInput, match="4 images in a row") as one_by_one:
        source.load(Request(torch.tensor([0])))
    reported = []
    apart = source.subset(torch.tensor([0, 10, 1, 11, 2, 12, 3, 13, 39, 14]))
    with pytest.raises(
        BadInput, match=r"^photos: more than 1 % of the 10 .* read: (\w/\d\d.png, ){3}\w/\d\d.png \(the last"
    ):
        list(batches(apart, 5, seed=0, epochs=1, workers=workers, device=CPU, report=lambda *bad: reported.append(bad)))
    assert len(reported) == 4
    with pytest.raises(BadInput) as in_a_row:  # in a worker, the same sentence
        list(ordered(source, 10, workers=workers, device=CPU))
    assert str(in_a_row.value) == str(one_by_one.value)
    with pytest.raises(BadInput, match=r"remove or mend them\.$"):
        list(ordered(apart, 5, device=CPU))
