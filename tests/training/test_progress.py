"""The lines that a run prints while it trains."""

import re
from io import StringIO

import pytest

import sanslabel
from sanslabel.batch import Clock
from sanslabel.training import progress, slowdown
from sanslabel.training.progress import Pace, duration, position
from sanslabel.training.slowdown import Slowdown

SMALL = dict(data="digits", encoder={"name": "mlp", "hidden": [16]}, batch=256, epochs=3, device="cpu")
"""15 steps"""


def clock(step: int, per_epoch: int = 10, epochs: int = 10) -> Clock:
    return Clock(0, step // per_epoch, step, epochs * per_epoch, per_epoch)


@pytest.fixture
def now(monkeypatch) -> list[float]:
    """The time that a clock shows, in seconds."""
    time = [0.0]
    for module in (progress, slowdown):
        monkeypatch.setattr(module.time, "monotonic", lambda: time[0])
    return time


def lines(now: list[float], seconds: float, steps: int, per_epoch: int) -> list[int]:
    """Returns the steps after which a line is printed if each step takes so many seconds."""
    pace, printed = Pace(0), []
    for step in range(steps):
        now[0] += seconds
        pace.step(clock(step))
        if pace.line_due(clock(step, per_epoch, steps // per_epoch)):
            printed.append(step + 1)
            pace.printed()
    return printed


@pytest.mark.parametrize(
    ("seconds", "steps", "per_epoch", "expected"),
    [
        (2.0, 30, 10, [5, 10, 20, 30]),  # the first after ten seconds, then each epoch
        (0.1, 100, 10, [100]),  # a short run: its end
        (0.25, 200, 10, [40, 80, 120, 160, 200]),  # short epochs share a line
        (33.0, 8, 4, [1, 3, 4, 6, 8]),  # long steps and epochs: each minute, and each epoch
        (1.0, 200, 200, [10, 70, 130, 190, 200]),
    ],
)
def test_lines_come_with_epochs_and_at_least_once_a_minute(now, seconds, steps, per_epoch, expected):
    assert lines(now, seconds, steps, per_epoch) == expected


def test_the_time_left_does_not_count_the_first_step_twice(now):
    pace, now[0] = Pace(0), 30.0
    pace.step(clock(0))
    assert pace.seconds_left(clock(0)) == 30 * 99, "nothing better is known"
    for step in range(1, 10):
        now[0] += 2
        pace.step(clock(step))
    assert pace.seconds_left(clock(9)) == pytest.approx(2 * 90)


def test_the_time_left_of_a_resumed_run(now):
    pace, now[0] = Pace(50), 5.0
    pace.step(clock(50))
    assert pace.seconds_left(clock(50)) == 5 * 49
    now[0] += 4.0
    assert pace.seconds_left(clock(54)) == pytest.approx(45)


def test_positions_and_times_are_short():
    assert [position(clock(step, 10, 20)) for step in (0, 9, 23, 199)] == [
        "epoch 0.1/20",
        "epoch 1/20",
        "epoch 2.4/20",
        "epoch 20/20",
    ]
    assert position(clock(998, 1000, 20)) == "epoch 0.9/20", "never rounded up to an epoch that is not over"
    assert [duration(s) for s in (0.4, 50, 240, 5000, 20520, 3 * 86400)] == [
        "1 s",
        "50 s",
        "4 min",
        "83 min",
        "5.7 h",
        "3 days",
    ]


def test_a_run_that_becomes_three_times_slower_says_so_once(now):
    watched, said = Slowdown(workers=4), []
    for step in range(600):
        now[0] += 1.0 if step < 200 else 2.5 if step < 300 else 3.5
        if advice := watched.advice(clock(step)):
            said.append((step, advice))
    ((step, advice),) = said
    assert 300 < step < 340
    assert advice == (
        "the run is 3.5 times slower than in its first minute: end other programs that keep the machine busy, "
        "or continue with fewer than 4 --workers"
    )


def test_a_steady_run_says_nothing_of_its_speed(now):
    watched = Slowdown(workers=0)
    for step in range(300):
        now[0] += 40.0 if step == 0 else 1.0 + step % 2
        assert watched.advice(clock(step)) == ""
    now[0] += 400.0
    assert watched.advice(clock(300)).endswith("keep the machine busy")


def test_each_epoch_leaves_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "PAUSE", 0.0)
    sanslabel.train(out=tmp_path / "run", **SMALL)
    printed = capsys.readouterr().err.splitlines()
    epochs = [line for line in printed if line.startswith("epoch")]
    pattern = r"epoch {}  loss [\d.]+  rank [\d.]+{}  [\d,]+ images/s"
    left = r"  \d s left"
    for line, done, end in zip(epochs, ("0.2/3", "1/3", "2/3", "3/3"), (left, left, left, ""), strict=True):
        assert re.fullmatch(pattern.format(done, end), line), line
    assert [line.partition(":")[0] for line in printed].count("time") == 1
    assert max(len(line) for line in printed if not line.startswith("training: ")) <= 80


def test_two_players_and_points_fit_a_line(tmp_path, capsys):
    sanslabel.train("ring", method="ebgan", recipe="toy", batch=512, epochs=1, out=tmp_path / "run", device="cpu")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch")]
    assert re.match(r"epoch 1/1  critic loss .*  generator loss [\d.e-]+$", line)
    assert len(line) <= 80


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_steps_and_loss_from_the_first_step_on(tmp_path, monkeypatch):
    screen = Terminal()
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "errors", lambda: screen)
    monkeypatch.setattr(progress, "REFRESH", 0.0)
    sanslabel.train(out=tmp_path / "run", **SMALL)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    shown = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
    assert any("first of 15 steps" in line for line in shown)
    assert re.search(r"epoch 3/3  step 15/15  0 s left  loss \d\.\d+  rank", shown[-1])
    assert "-:--:--" not in text
    assert max(map(len, shown)) <= 80
