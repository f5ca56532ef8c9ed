"""The queue of measurements for a GPU: its order, what it skips, and that it stops in time. No test needs a GPU; the
rehearsal runs all items on the CPU."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import torch

from bench.gpu import needs, page
from bench.gpu import run as gpu
from bench.gpu.items import FASHION, absent, items
from bench.gpu.place import Place
from bench.gpu.queue import Item, allowed, is_measured, lines_in, measured, unmeasured
from bench.gpu.worker import Worker
from sanslabel import methods
from sanslabel.sources import Request, open_source

ABOUT = {"device": "a card", "commit": "new", "torch": "2", "cuda": "13", "python": "3", "on": "today"}


def item(name, seconds=10.0, needs=()):
    return Item(name, seconds, dict, needs)


def line(name, commit="new", **figures):
    return ABOUT | {"item": name, "commit": commit, "seconds": 1.0} | figures


def run(queue, tmp_path, seconds, took=10.0, lines=(), outcome=None):
    """The names of the items that begin within so many seconds of a clock that measuring turns on."""
    now = [0.0]

    def measure(item, left):
        assert left == seconds - now[0]
        now[0] += took
        return outcome or {}

    file = tmp_path / "lines.jsonl"
    return [
        line["item"] for line in measured(queue, lines, measure, ABOUT, file, deadline=seconds, clock=lambda: now[0])
    ]


def test_items_are_measured_in_order_until_the_next_one_would_not_end_in_time(tmp_path):
    queue = [item("a"), item("b"), item("c")]
    assert run(queue, tmp_path, seconds=30) == ["a", "b", "c"]
    assert run(queue, tmp_path, seconds=29) == ["a", "b"]
    assert run(queue, tmp_path, seconds=9) == []


def test_a_shorter_item_takes_the_time_that_a_longer_one_would_exceed(tmp_path):
    assert run([item("a"), item("b", seconds=60), item("c")], tmp_path, seconds=25) == ["a", "c"]


def test_a_line_is_written_before_the_next_item_begins(tmp_path):
    file = tmp_path / "lines.jsonl"

    def measure(item, left):
        assert [line["item"] for line in lines_in(tmp_path)] == ["a", "b"][: int(item.name == "b")]
        return {"value": item.name}

    assert len(list(measured([item("a"), item("b")], [], measure, ABOUT, file, deadline=float("inf")))) == 2
    assert [line["value"] for line in lines_in(tmp_path)] == ["a", "b"]
    assert lines_in(tmp_path)[0].items() > ABOUT.items()


def test_a_line_that_its_process_did_not_finish_is_no_line(tmp_path):
    (tmp_path / "lines.jsonl").write_text(json.dumps(line("a")) + "\n" + json.dumps(line("b"))[:20])
    assert [line["item"] for line in lines_in(tmp_path)] == ["a"]


def test_what_is_measured_is_skipped_whatever_the_commit_and_what_failed_only_at_its_own():
    queue, failed = [item("a"), item("b"), item("c")], line("b", error="it broke", commit="old")
    lines = [line("a", commit="old"), failed]
    assert [item.name for item in unmeasured(queue, lines, "old")] == ["c"]
    assert [item.name for item in unmeasured(queue, lines, "new")] == ["b", "c"]
    assert not is_measured(failed)


def test_an_item_that_was_cut_off_gets_half_as_much_time_again():
    cut = [line("a", cut_off=True, seconds=40.0), line("a", cut_off=True, seconds=20.0)]
    assert unmeasured([item("a")], cut, "new")
    assert allowed(item("a"), cut) == 60
    assert allowed(item("a", seconds=90), cut) == 90
    assert allowed(item("b"), cut) == 10


def test_an_item_that_fails_or_takes_too_long_does_not_stop_the_others(tmp_path):
    """The second item waits for longer than it may, the third ends its process."""
    worker = Worker(Place("cpu", None, toy=True), tmp_path / "log", tmp_path)
    try:
        assert worker(Item("a", 1, vars), 60)["kind"] == "cpu"
        assert "TypeError" in worker(Item("b", 1, int), 60)["error"]
        assert "TypeError" in (tmp_path / "log").read_text()
        assert worker(Item("c", 1, _slow), 0.1) == {"cut_off": True}
        assert worker(Item("d", 1, _dead), 60)["error"] == "its process ended with exit code 7"
    finally:
        worker.stop()


def _slow(place):
    time.sleep(60)


def _dead(place):
    os._exit(7)


def test_every_method_and_every_kind_is_in_the_list_once():
    names = [item.name for item in items()]
    assert len(set(names)) == len(names)
    assert {f"a/{name}" for name in methods.names()} | {f"a/{name}, compiled" for name in methods.names()} <= {*names}
    first = {kind: next(i for i, name in enumerate(names) if name.startswith(kind)) for kind in "abcdef"}
    assert first["a"] < first["b"] < first["c"] < first["d"] < first["e"]


def test_items_whose_needs_are_not_met_are_left_out():
    needy = item("e", needs=(FASHION, "no_such_package"))
    assert absent(needy, Place("cuda", None)) == [FASHION, "no_such_package"]
    assert absent(needy, Place("cuda", "file.npz")) == ["no_such_package"]
    assert absent(item("e", needs=("triton",)), Place("cpu", None, toy=True)) == []


def test_what_is_missing_is_named_with_the_command_that_brings_it(monkeypatch):
    assert needs.lacking() == {}
    monkeypatch.setattr(needs, "is_installed", lambda name: name != "rich")
    monkeypatch.setattr(needs, "_version", lambda name: "12.1.0" if name == "pillow" else "99")
    assert needs.lacking() == {"pillow": "12.1.0 where 13 is needed", "rich": "missing"}
    assert needs.download(["rich", "unheard-of"]).endswith("-d wheels rich==15.0.0 unheard-of")


def test_the_page_lists_what_is_missing_and_what_failed():
    name = methods.names()[0]
    exact = {"steps": 5, "loss": 1.5, "difference": 2e-4, "first_difference": 0.0, "resume_is_exact": True}
    lines = [line(f"a/{name}", bfloat16=1.51, **exact), line("b/32", error="it broke")]
    assert "No GPU was at hand" in page.performance([])
    text = page.performance(lines)
    assert f"| {name} | a card | 5 | 2e-04 | yes | yes | 1.5 | 1.51 |  |" in text
    assert "* a: all methods that the table lacks\n* a: all methods, compiled\n* b: 32; 96; 224\n" in text
    assert "* b/32 failed at new: it broke" in text
    assert "* e: simclr; vicreg;" in page.learned(lines)
    assert "No GPU" not in text


def test_a_second_call_goes_on_where_the_first_one_stopped(tmp_path, monkeypatch, capsys):
    """On a card that is none, with a clock and a worker that measure nothing."""
    now, out, results = [0.0], tmp_path / "out", tmp_path / "results"

    class Measuring:
        def __init__(self, place, log, scratch):
            assert (place.kind, place.toy) == ("cuda", False)

        def __call__(self, item, left):
            now[0] += 10
            return {"error": "it broke"} if item.name == "b" else {"value": 1}

        def stop(self):
            now[0] = 0

    queue = [item(name) for name in "abcd"]
    timed = partial(measured, clock=lambda: now[0])
    for name, value in {"items": lambda: queue, "Worker": Measuring, "measured": timed, "RESULTS": results}.items():
        monkeypatch.setattr(gpu, name, value)
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu.torch.cuda, "get_device_name", lambda: "A card")
    with pytest.raises(SystemExit, match="1 items failed"):
        gpu.run(out, 25, "images.npz", "abc")
    results.mkdir()
    for file in out.glob("*.jsonl"):
        file.rename(results / file.name)  # as a person copies them
    gpu.run(out, 25, "images.npz", "abc")
    assert [line["item"] for line in [*lines_in(results), *lines_in(out)]] == ["a", "b", "c", "d"]
    assert {line["device"] for line in lines_in(out)} == {"A card"}
    assert capsys.readouterr().out.count("items to measure") == 2


def test_without_a_gpu_it_says_what_can_be_done(tmp_path):
    with pytest.raises(SystemExit, match="--rehearse runs all items on the CPU"):
        gpu.run(tmp_path, 60, None, "abc")


def test_what_is_brought_is_read_as_the_set_itself(tmp_path, monkeypatch):
    few = open_source("fashion", "test").subset(torch.arange(20))
    monkeypatch.setattr(gpu, "open_source", lambda name, split: few)
    brought = open_source(gpu.bring(tmp_path), "train")
    request = Request(torch.arange(20))
    assert brought.load(request).images.pixels.equal(few.load(request).images.pixels)
    assert brought.labels.equal(few.labels)
    assert brought.classes == few.classes


@pytest.mark.learning
@pytest.mark.timeout(300)
def test_all_items_run_on_the_cpu_at_toy_size(tmp_path):
    """And the pages show them."""
    command = [sys.executable, "-m", "bench.gpu", "--rehearse", "--out", str(tmp_path)]
    print(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    lines = lines_in(tmp_path)
    expected = [item.name for item in items() if not absent(item, Place("cpu", None, toy=True))]
    assert [line["item"] for line in lines] == expected
    assert all(map(is_measured, lines))
    exact = [line for line in lines if "resume_is_exact" in line]
    assert all(line["resume_is_exact"] and line["difference"] == 0 for line in exact)
    assert all(line["first_difference"] < 2e-6 for line in lines if "first_difference" in line)
    assert "\n* f: " not in page.performance(lines)
    assert "\n* e: " not in page.learned(lines)


@pytest.mark.faults
def test_a_signal_ends_it_and_keeps_the_lines(tmp_path):
    command = [sys.executable, "-m", "bench.gpu", "--rehearse", "--out", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not lines_in(tmp_path) and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 128 + signal.SIGTERM
    assert all(map(is_measured, lines_in(tmp_path)))
