import json

import torch

from bench import __main__ as suite
from bench.arithmetic import operations
from bench.turns import seconds


def test_the_page_is_what_the_results_say():
    """Rendered anew after each change of either: python -m bench --page."""
    assert suite.PAGE.read_text() == suite.page()


def test_the_page_says_where_no_gpu_was_at_hand(tmp_path, monkeypatch):
    monkeypatch.setattr(suite, "RESULTS", tmp_path)
    about = {"device": "A processor", "memory": "1 GiB", "versions": {"torch": "2"}, "parts": {}}
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


def test_medians_are_of_turns_in_which_each_side_runs():
    calls = []
    taken = seconds({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2, at_least=0)
    assert set(taken) == {"a", "b"}
    assert calls == ["a", "a", "b", "b", "b", "a", "a", "b"]
