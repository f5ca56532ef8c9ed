"""Pairs of two signals: ranks against a loop, chance at collapse, the AUROC and its interval."""

from itertools import product

import pytest
import torch

from sanslabel.evaluation.matching import (
    centered,
    gain_of_true_pairs,
    places,
    places_by_chance,
    rounded_cosines,
)

GENERATOR = torch.Generator().manual_seed(0)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=GENERATOR)


def test_places_are_those_of_a_loop():
    a, b = random(40, 4), random(40, 4)
    cosine, labels = rounded_cosines(a, b), torch.arange(40) % 7
    found = places(cosine, labels, seed=0)
    ranks = [1 + sum(bool(x > row[i]) for x in row) for i, row in enumerate(cosine)]
    assert found.recall == {k: pytest.approx(100 * sum(rank <= k for rank in ranks) / 40) for k in (1, 5, 10)}
    assert found.median_rank == pytest.approx(torch.tensor(ranks).double().quantile(0.5).item())
    for k, value in found.precision.items():
        shares = [(labels[row.topk(k).indices] == labels[i]).double().mean() for i, row in enumerate(cosine)]
        assert value == pytest.approx(100 * torch.stack(shares).mean().item(), abs=1e-4)


def test_equal_signals_find_themselves():
    a = random(30, 8)
    found = places(rounded_cosines(a, 3 * a), None, seed=0)
    assert found.recall == {1: 100, 5: 100, 10: 100}
    assert found.median_rank == 1
    assert found.precision == {}
    gain = gain_of_true_pairs(rounded_cosines(a, a), None, seed=0)
    assert (gain.value, gain.low, gain.high) == (50, 50, 50)


def test_collapse_is_chance():
    """Where all embeddings are equal, every order is as good: the partner is not always first."""
    a = random(1, 8).expand(60, 8)
    labels = torch.arange(60) % 6
    cosine = rounded_cosines(centered(a), centered(random(1, 8).expand(60, 8)))
    found, chance = places(cosine, labels, seed=0), places_by_chance(60, labels)
    assert found.recall == pytest.approx(chance.recall)
    assert chance.recall == pytest.approx({1: 100 / 60, 5: 500 / 60, 10: 1000 / 60})
    assert found.median_rank == chance.median_rank == 30.5
    assert found.precision == pytest.approx(chance.precision, abs=6)
    assert chance.precision[1] == pytest.approx(100 / 6)
    assert gain_of_true_pairs(cosine, None, seed=0).value == 0


def test_the_gap_between_two_signals_is_no_obstacle():
    shared, gap = random(50, 8), 20 * random(2, 1, 8)
    a, b = shared + gap[0], shared + gap[1]
    apart, brought_together = rounded_cosines(a, b), rounded_cosines(centered(a), centered(b))
    assert places(brought_together, None, 0).recall[1] > places(apart, None, 0).recall[1]


def test_doubles_bound_the_recall_and_not_the_precision():
    """Of 40 samples in 10 groups of equal ones, a quarter of the partners can be found at the first place."""
    group = torch.arange(40) // 4
    a = random(10, 6)[group]
    found = places(rounded_cosines(a, a), group, seed=0)
    assert found.recall == {1: pytest.approx(25), 5: 100, 10: 100}
    assert found.precision[1] == 100
    assert found.median_rank == 2.5


def test_samples_without_a_label_have_no_precision():
    a, labels = random(20, 4), torch.arange(20) % 2
    labels[10:] = -1
    assert places(rounded_cosines(a, a), labels, 0).precision[1] == 100
    assert places_by_chance(20, labels).precision[1] == pytest.approx(100 * 5 / 20)
    assert places_by_chance(20, torch.full((20,), -1)).precision == {}


def test_the_auroc_is_the_share_of_pairs_in_order():
    a = random(12, 3)
    b = a + 0.7 * random(12, 3)
    cosine = rounded_cosines(a, b)
    gain = gain_of_true_pairs(cosine, None, seed=0)
    true = cosine.diagonal()
    false = [cosine[i, j] for i, j in product(range(12), repeat=2) if i != j]
    every = sum((t > f) + 0.5 * (t == f) for t in true for f in false) / (12 * len(false))
    assert 50 + gain.value == pytest.approx(100 * float(every), abs=4)  # ten of the eleven others of each
    assert gain.low < gain.value < gain.high
    assert gain.over == "chance"


def test_the_interval_covers_chance_for_unrelated_signals_and_is_wider_over_few_clips():
    covered, widths = 0, []
    for seed in range(20):
        cosine = rounded_cosines(random(100, 8), random(100, 8))
        gain = gain_of_true_pairs(cosine, None, seed)
        covered += gain.low < 0 < gain.high
        widths.append(gain.high - gain.low)
    assert covered >= 16
    repeated = torch.arange(100) // 10
    a, b = random(10, 8)[repeated] + 0.1 * random(100, 8), random(10, 8)[repeated] + 0.1 * random(100, 8)
    gain = gain_of_true_pairs(rounded_cosines(a, b), repeated, seed=0)
    assert gain.high - gain.low > 1.5 * max(widths)


def test_samples_of_one_clip_are_not_shuffled_with_each_other():
    """Two clips of equal samples: only the other clip counts as wrong."""
    group = torch.arange(20) // 10
    a = random(2, 5)[group]
    assert gain_of_true_pairs(rounded_cosines(a, a), group, seed=0).value == 50
    assert gain_of_true_pairs(rounded_cosines(a, a), None, seed=0).value < 40
