import importlib
import json
from contextlib import contextmanager, suppress

import pytest
import torch

from bench import __main__ as suite
from bench import learns
from bench.arithmetic import operations
from bench.growth import exponent
from bench.interleaving import interleaved, median_seconds
from bench.time_to_accuracy import arrival


def test_the_page_is_what_the_results_say():
    """Rendered anew after each change of either: python -m bench --page."""
    assert suite.PAGE.read_text() == suite.page()


def test_the_page_of_learning_is_what_the_results_state():
    """After a change of names, the digests of the settings in bench/results/learning.jsonl are computed anew."""
    lines = [json.loads(line) for line in (learns.ROOT / "bench/results/learning.jsonl").read_text().splitlines()]
    assert (learns.ROOT / "docs/learning.md").read_text() == learns.rendered(lines)


def test_the_page_says_where_no_gpu_was_at_hand(tmp_path, monkeypatch):
    monkeypatch.setattr(suite, "RESULTS", tmp_path)
    about = {"device": "A processor", "memory": "1 GiB", "parts": {}}
    (tmp_path / "a.json").write_text(json.dumps(about | {"kind": "cpu"}))
    assert "No GPU was at hand" in suite.page()
    (tmp_path / "b.json").write_text(json.dumps(about | {"kind": "cuda", "device": "A card"}))
    assert "No GPU was at hand" not in suite.page()
    assert "# A card" in suite.page()


def test_operations_are_two_for_each_multiplication_forward_and_backward():
    x, layer = torch.randn(5, 7, requires_grad=True), torch.nn.Linear(7, 3, bias=False)
    assert operations(lambda: layer(x)) == 2 * 5 * 7 * 3
    assert operations(lambda: layer(x).sum().backward()) == 3 * 2 * 5 * 7 * 3
    images, conv = torch.randn(2, 3, 8, 8), torch.nn.Conv2d(3, 4, 3, padding=1)
    assert operations(lambda: conv(images)) == 2 * (2 * 8 * 8) * 4 * 3 * 9


def test_medians_are_of_rounds_in_which_each_call_runs():
    order = []
    calls = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    assert set(median_seconds(calls, rounds=2, at_least=0)) == {"a", "b"}
    assert order == ["a", "a", "b", "b", "b", "a", "a", "b"]


def test_a_call_runs_within_its_context():
    order = []

    @contextmanager
    def context():
        order.append("(")
        yield
        order.append(")")

    calls = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    interleaved(calls, rounds=1, at_least=0, contexts={"a": context})
    assert "".join(order) == "(aa)bbb(a)"


@pytest.mark.parametrize("name", suite.BENCHES)
def test_a_bench_that_was_cut_off_is_shown_as_far_as_it_came(name):
    (path, *_) = sorted(suite.RESULTS.glob("*.json"))
    section, lines = importlib.import_module(f"bench.{name}").section, json.loads(path.read_text())["parts"][name]
    for end in range(1, len(lines)):
        assert "##" in section(lines[:end])


@pytest.mark.parametrize(("name", "speeds"), [("step", "beside"), ("views", "views_per_second")])
def test_lines_that_were_measured_beside_other_peers_are_shown_together(name, speeds):
    (path, *_) = sorted(suite.RESULTS.glob("*.json"))
    section, lines = importlib.import_module(f"bench.{name}").section, json.loads(path.read_text())["parts"][name]
    other = {"lightly, bfloat16, 64 workers": 1.0} | {peer: lines[0][speeds][peer] for peer in [*lines[0][speeds]][:2]}
    assert "64 workers" in section([{**lines[0], speeds: other}, *lines[1:]])


def test_a_law_is_that_of_the_upper_half_of_the_sizes():
    sizes = [1, 2, 4, 8, 16, 32, 64]
    assert exponent(sizes, [64, 64, 64, *(n**2 for n in sizes[3:])], least=1) == pytest.approx(2)
    assert exponent(sizes[-3:], [n**1.5 for n in sizes[-3:]], least=1) == pytest.approx(1.5)
    assert exponent(sizes[-2:], sizes[-2:], least=1) is None
    assert exponent(sizes, sizes, least=65) is None


def test_the_goal_is_reached_on_a_line_through_the_readings():
    assert arrival([(10, 87.5), (20, 89.5), (30, 80)]) == pytest.approx(15)
    assert arrival([(10, 87), (20, 88.5)]) == 20
    assert arrival([(10, 90)]) == 10
    assert arrival([(10, 87), (20, 88)]) is None


def test_what_a_bench_measured_stands_beside_its_code_and_versions(tmp_path, monkeypatch):
    """Lines of an interrupted run keep the commit that they are of."""
    path, about = tmp_path / "a.json", {"kind": "cpu", "device": "A processor", "memory": "1 GiB"}
    made = importlib.import_module("bench.start")
    for commit, commands in (("old", ["import torch", "b"]), ("new", ["b"])):
        measured = {"on": "today", "commit": commit, "versions": {"torch": "2"}}
        monkeypatch.setattr(suite, "occasion", lambda measured=measured: measured)

        def lines(device, commands=commands):
            yield from ({"case": command, "seconds": 1.0} for command in commands)
            if len(commands) == 1:
                raise KeyboardInterrupt

        monkeypatch.setattr(made, "lines", lines)
        with suppress(KeyboardInterrupt):
            suite.measure("start", torch.device("cpu"), path, about)
    monkeypatch.setattr(suite, "RESULTS", tmp_path)
    (measured,) = (line for line in suite.page().splitlines() if "Measured" in line)
    assert "With torch 2." in measured
    assert "(old)" in measured
    assert "(new)" in measured
