"""Samples that are near in both banks, and draws that leave some samples out."""

import pytest
import torch
from torch.nn.functional import normalize

from sanslabel import consensus as module
from sanslabel.consensus import consensus, integers_without


def banks(samples: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [normalize(torch.randn(samples, 6, generator=generator), dim=1) for _ in range(2)]


def loop(a, b, count):
    nearest = []
    for row in range(len(a)):
        both = {
            other: min((a[row] @ a[other]).item(), (b[row] @ b[other]).item())
            for other in range(len(a))
            if other != row
        }
        nearest.append(sorted(sorted(both, key=lambda other: -both[other])[:count]))
    return nearest


@pytest.mark.parametrize("at_once", [1 << 20, 50])
def test_it_is_the_loop_over_pairs(at_once, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", at_once)
    a, b = banks(23)
    assert consensus(a, b, 5).tolist() == loop(a, b, 5)


def test_both_signals_must_agree():
    """Samples 0 and 1 look alike and sound alike, 0 and 2 only look alike, 0 and 3 only sound alike."""
    axes = torch.eye(4)
    looks, sounds = axes[[0, 0, 0, 1]], axes[[0, 0, 1, 0]]
    assert consensus(looks, sounds, 1)[0].tolist() == [1]
    assert consensus(looks, sounds, 1)[1].tolist() == [0]
    alone = consensus(looks, looks, 2)
    assert alone[0].tolist() == [1, 2], "two equal banks are one, and no sample is its own positive"


@pytest.mark.parametrize("excluded", [[[3], [0], [9]], [[0, 1, 5], [2, 8, 9], [4, 5, 6]], [[*range(9)]] * 3])
def test_draws_are_uniform_without_the_excluded_numbers(excluded):
    left_out = torch.tensor(excluded)
    drawn = integers_without(torch.tensor([5, 6, 7]), 9000, 10, left_out, stream=3)
    assert drawn.shape == (3, 9000)
    for numbers, row in zip(excluded, drawn, strict=True):
        counts = torch.bincount(row, minlength=10)
        assert len(counts) == 10
        allowed = [number for number in range(10) if number not in numbers]
        assert not counts[numbers].any()
        assert (counts[allowed] / 9000 * len(allowed) - 1).abs().max() < 0.15
