"""The stopwatch, with a clock that the tests set."""

import timeit
from contextlib import suppress

import pytest
import torch

from sanslabel import stopwatch
from sanslabel.stopwatch import Stopwatch, timed, timed_waiting, timing

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

    monkeypatch.setattr(stopwatch, "perf_counter", lambda: Clock.now)
    return Clock


def test_each_second_belongs_to_the_innermost_phase(clock):
    @timed("views")
    def rendered():
        clock.now += 2

    with timing(Stopwatch(CPU)) as watch:
        clock.now += 1
        with timed("forward"):
            clock.now += 10
            rendered()
            with timed("views"):
                rendered()
                clock.now += 3
            clock.now += 20
        clock.now += 5
        assert watch.lap() == {"rest": 6, "forward": 30, "views": 7}
        clock.now += 4
        assert watch.lap() == {"rest": 4}


def test_an_error_ends_its_phase(clock):
    with timing(Stopwatch(CPU)) as watch:
        with suppress(ZeroDivisionError), timed("backward"):
            clock.now += 1
            raise ZeroDivisionError
        clock.now += 2
        assert watch.lap() == {"backward": 1, "rest": 2}


def test_waiting_is_the_time_until_an_item_is_there(clock):
    def slow():
        for item in "ab":
            clock.now += 3
            yield item
        clock.now += 7

    items = []
    with timing(Stopwatch(CPU)) as watch:
        for item in timed_waiting(slow()):
            clock.now += 10
            items.append(item)
        assert watch.lap() == {"waiting": 13, "rest": 20}
    assert items == ["a", "b"]


def test_a_mark_costs_microseconds_without_a_running_stopwatch():
    def marked():
        with timed("views"):
            pass

    assert min(timeit.repeat(marked, number=1000, repeat=5)) / 1000 < 2e-5


def test_on_cuda_time_is_read_from_events_that_have_passed_and_never_waited_for(monkeypatch):
    """With a device that is two events behind."""
    made = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing
            made.append(self)

        def record(self, stream):
            self.at = 10.0 * made.index(self)  # milliseconds

        def query(self):
            return len(made) - made.index(self) > 2

        def elapsed_time(self, end):
            assert end.query(), "it would be waited for"
            return end.at - self.at

    def waited(*_):
        raise AssertionError("the device is waited for")

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: device)
    monkeypatch.setattr(torch.cuda, "synchronize", waited)
    with timing(Stopwatch(torch.device("cuda", 0))) as watch:
        for _ in range(4):
            with timed("forward"), timed("views"):
                pass
        lap = watch.lap()
    assert sum(lap.values()) == pytest.approx(0.01 * (len(made) - 3))
    assert lap["forward"] == pytest.approx(2 * lap["views"], rel=0.3)
