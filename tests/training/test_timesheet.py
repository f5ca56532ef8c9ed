"""What a run says of its time."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

import sanslabel
from sanslabel.batch import Clock
from sanslabel.cli import main
from sanslabel.errors import BadInput
from sanslabel.run_config import Spent, checked
from sanslabel.run_folder import RunFolder
from sanslabel.serialization import to_plain
from sanslabel.sources import open_source
from sanslabel.training import run as running
from sanslabel.training import session, timesheet
from sanslabel.training.signals import Stopped
from sanslabel.training.timesheet import Entry, Timesheet

DCGAN = {"name": "dcgan", "filters": 8}
SMALL = dict(data="digits", encoder=DCGAN, batch=256, epochs=4, precision="float32", device="cpu")
"""5 steps an epoch"""
ENTRY = Entry(
    epoch=3,
    seconds=60.0,
    shares={"network": 0.961, "views": 0.021, "waiting": 0.009, "rest": 0.009},
    images_per_second=1130.4,
    peak_memory=int(1.1 * 2**30),
    device_memory=0,
)


class Watch:
    """A stopwatch that shows what it is told to."""

    def __init__(self, **spent: float) -> None:
        self.spent = spent

    def lap(self) -> dict[str, float]:
        return self.spent


def sheet(source=None, workers=0, cache="none", precision="float32", side=32, epochs=2, **spent: float) -> Timesheet:
    plan = SimpleNamespace(
        batch=32, device="cpu", workers=workers, cache=cache, precision=precision, image_size=side, epochs=epochs
    )
    return Timesheet(Watch(**spent), plan, source)


def data(decodes: bool, decoded: str | None = None) -> SimpleNamespace:
    return SimpleNamespace(decodes=decodes, pictures=SimpleNamespace(cache=decoded))


def clock(step: int) -> Clock:
    return Clock(0, step // 10, step, 100, 10)


def entry(**shares: float) -> Entry:
    return replace(ENTRY, shares={"network": 0.5, "views": 0.0, "waiting": 0.0, "rest": 0.0} | shares)


def test_an_entry_is_two_lines_that_fit_a_terminal():
    shares = "time: network 96 %, views 2 %, waiting for data 1 %, rest 1 %"
    speed = "1,130 images/s; peak memory 1.1 GiB"
    assert ENTRY.lines() == (shares, speed)
    assert replace(ENTRY, device_memory=2**31).lines() == (shares, f"{speed}, 2.0 GiB on the device")
    assert replace(ENTRY, peak_memory=0).lines("samples/s") == (shares, "1,130 samples/s")
    wide = replace(
        ENTRY, images_per_second=1e6, peak_memory=2**37, device_memory=2**36, shares=dict(ENTRY.shares, rest=1)
    )
    assert max(map(len, wide.lines())) <= 80


def test_the_total_is_of_all_entries(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(timesheet.time, "monotonic", lambda: now[0])
    watch = Watch(forward=3.0, waiting=1.0)
    of = sheet()
    of.watch = watch
    of.begin(clock(0))
    assert of.total(clock(0)) is None
    now[0], of.spent = 10.0, timesheet.defaultdict(float)
    of.entry(clock(10))
    watch.spent, now[0] = {"forward": 1.0, "waiting": 3.0}, 20.0
    total = of.total(clock(20))
    assert total.shares == {"network": 0.5, "views": 0.0, "waiting": 0.5, "rest": 0.0}
    assert total.images_per_second == 20 * 32 / 20


def test_the_network_is_forward_backward_and_update():
    of = sheet(forward=3, backward=5, update=1, views=0.5, waiting=0.3, rest=0.2)
    of.begin(clock(0))
    found = of.entry(clock(9))
    assert found.shares == pytest.approx({"network": 0.9, "views": 0.05, "waiting": 0.03, "rest": 0.02})
    assert found.epoch == 1
    assert found.figures["share_of_views"] == 0.05


def test_short_epochs_share_an_entry_and_the_last_one_always_has_one(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(timesheet.time, "monotonic", lambda: now[0])
    of = sheet(forward=1)
    assert not of.due(clock(9)), "nobody has begun it"
    of.begin(clock(0))
    told = []
    for step in range(1, 100):
        now[0] += 0.4
        if of.due(clock(step)):
            told.append((step, of.entry(clock(step)).images_per_second))
    assert [step for step, _ in told] == [29, 59, 89, 99]
    assert [speed for _, speed in told] == pytest.approx([80] * 4)


def test_what_takes_much_is_advised_about():
    arrays = open_source("digits", "train")
    assert list(sheet(arrays).advice(ENTRY)) == []
    (said,) = sheet(arrays).advice(entry(views=0.3))
    assert "views take 30 %" in said
    assert "--precision bfloat16" in said
    (said,) = sheet(arrays, precision="bfloat16").advice(entry(views=0.3))
    assert "--precision" not in said
    assert len(list(sheet(arrays).advice(entry(views=0.2, rest=0.3)))) == 2
    assert list(sheet(arrays).advice(replace(entry(rest=0.4), seconds=1.0))) == [], "too short to tell"
    (sentence,) = sheet(arrays, side=1).advice(entry(views=0.3, waiting=0.2, rest=0.3))
    assert sentence.startswith("waiting for data"), "no larger encoder helps with points in a plane"


@pytest.mark.parametrize(
    ("source", "cache", "workers", "way", "no_way"),
    [
        (data(decodes=True), "none", 2, "--workers 4), or keep .*--cache ram", "room"),
        (data(decodes=True), "none", 8, "keep what was decoded", "--workers"),
        (data(decodes=True, decoded="some"), "ram", 2, "--workers 4), or make room", "--cache"),
        (data(decodes=False, decoded="all"), "disk", 2, "--cache ram.*faster disk", "--workers"),
        (data(decodes=False, decoded="all"), "ram", 2, "other programs", "disk"),
        (SimpleNamespace(decodes=False, pictures=None), "none", 0, "other programs", "disk"),
    ],
)
def test_slow_data_is_advised_about_by_where_it_lies(source, cache, workers, way, no_way, monkeypatch):
    monkeypatch.setattr(timesheet, "cores", lambda: 8)
    (said,) = sheet(source, workers, cache).advice(entry(waiting=0.16))
    assert said.startswith("waiting for data takes 16 % of the time")
    assert re.search(way.replace("(", r"\(").replace(")", r"\)"), said)
    assert no_way not in said


def test_a_single_epoch_is_not_advised_to_keep_what_was_decoded():
    (sentence,) = sheet(data(decodes=True), 16, epochs=1).advice(entry(waiting=0.16))
    assert "--cache" not in sentence


def test_a_run_says_it_at_its_end_and_writes_it_down(tmp_path, capsys):
    run = sanslabel.train(method="simclr", out=tmp_path / "run", **SMALL)
    said = capsys.readouterr().err
    assert said.count("waiting for data") == 1
    assert said.index("epoch 4/4  loss") < said.index("time: network")
    *before, last = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    shares = [last[f"share_of_{name}"] for name in ("network", "views", "waiting", "rest")]
    assert sum(shares) == pytest.approx(1, abs=1e-3)
    assert shares[0] > 0.3
    assert min(shares) > 0
    assert last["peak_memory"] > 2**26
    assert not any("share_of_views" in line for line in before)
    spent = json.loads((run.path / "run.json").read_text())["spent"]
    assert spent["peak_memory"] >= last["peak_memory"]
    assert spent["seconds"] == pytest.approx(run.seconds, abs=0.1)


def test_advice_is_given_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(timesheet, "PAUSE", 0.0)
    monkeypatch.setattr(timesheet, "MUCH", 0.0)
    sanslabel.train(method="simclr", out=tmp_path / "run", **SMALL)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("advice: ")]
    assert [line.removeprefix("advice: ").partition(" take")[0] for line in said] == [
        "waiting for data",
        "views",
        "logging, diagnostics and checkpoints",
    ]


def test_what_a_stopped_run_took_is_added_to(tmp_path, monkeypatch):
    def stopped(begun, *_):
        begun.save(0)
        raise Stopped(15, "stopped")

    with monkeypatch.context() as patch:
        patch.setattr(session.Session, "follow", stopped)
        patch.setattr(running, "peak_memory", lambda: 1 << 50)
        with pytest.raises(Stopped):
            sanslabel.train(method="simclr", out=tmp_path / "run", **SMALL)
    sanslabel.resume(tmp_path / "run")
    spent = json.loads((tmp_path / "run" / "run.json").read_text())["spent"]
    assert spent["peak_memory"] == 1 << 50
    sanslabel.resume(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["spent"]["seconds"] >= spent["seconds"]


def test_a_resumed_run_names_the_total_and_the_rest(tmp_path, monkeypatch, capsys):
    def stopped(begun, *_):
        begun.save(0)
        raise Stopped(15, "stopped")

    with monkeypatch.context() as patch:
        patch.setattr(session.Session, "follow", stopped)
        with pytest.raises(Stopped):
            sanslabel.train(method="simclr", out=tmp_path / "run", **SMALL)
    folder = RunFolder.open(tmp_path / "run")
    for spent in (Spent(seconds=3000.0, peak_memory=0, device_memory=0), None):
        replace(folder, spent=spent).write()
        with pytest.raises(SystemExit) as done:
            main(["train", "--resume", str(tmp_path / "run"), "--no-evaluate"])
        assert not done.value.code
    known, unknown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Trained")]
    assert re.match(r"Trained simclr for 4 epochs in 30\d\d s, \d+ s of it since the resume: ", known)
    assert re.match(r"Trained simclr for 4 epochs \(the last of them in \d+ s\): ", unknown)


def test_times_add_up_and_the_most_memory_counts():
    first = Spent(seconds=2.0, peak_memory=5, device_memory=0)
    assert first.and_then(Spent(seconds=3.0, peak_memory=4, device_memory=7)) == Spent(
        seconds=5.0, peak_memory=5, device_memory=7
    )
    assert checked({"spent": to_plain(first)})["spent"] == first
    with pytest.raises(BadInput, match="spent"):
        checked({"spent": {"kind": "Spent", "seconds": "long"}})
