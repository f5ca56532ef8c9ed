import time
from itertools import permutations as every

import pytest
import torch

from sanslabel.errors import BadInput
from sanslabel.views import permutations, shuffled


@pytest.fixture(scope="module", autouse=True)
def thousand() -> float:
    """Seconds of a processor that the first 1,000 permutations take; later calls find them."""
    permutations.__globals__["_chosen"].cache_clear()
    began = time.process_time()
    permutations(1000)
    return time.process_time() - began


def distances(orders: torch.Tensor) -> torch.Tensor:
    """Hamming distances of all pairs of different rows."""
    pairs = torch.triu_indices(len(orders), len(orders), 1)
    return (orders[pairs[0]] != orders[pairs[1]]).sum(dim=1)


@pytest.mark.parametrize(("count", "least"), [(2, 9), (9, 7), (100, 6), (1000, 5)])
def test_they_are_permutations_far_from_each_other(count, least):
    orders = permutations(count)
    assert orders.shape == (count, 9)
    assert orders.dtype == torch.int64
    assert torch.equal(orders.sort(dim=1).values, torch.arange(9).expand(count, 9))
    assert distances(orders).min() >= least


def test_each_is_the_farthest_from_those_before_it():
    orders = permutations(12, 5)
    candidates = torch.tensor(list(every(range(5))))
    for k in range(1, 12):
        nearest = (candidates[:, None] != orders[:k]).sum(dim=2).min(dim=1).values
        assert (orders[k] != orders[:k]).sum(dim=1).min() == nearest.max()


def test_they_are_always_the_same_and_a_small_set_begins_the_large_one():
    assert torch.equal(permutations(100), permutations(100))
    assert torch.equal(permutations(1000)[:100], permutations(100))
    changed = permutations(100)
    changed[:] = 0
    assert permutations(100).max() == 8, "what is handed out is a copy"


def test_every_tile_is_shown_everywhere():
    """So that a place tells little: in the first of alphabetical order it would."""
    share = (permutations(1000)[:, :, None] == torch.arange(9)).float().mean(dim=0)
    assert (share - 1 / 9).abs().max() < 0.03


def test_all_of_them_can_be_had_and_more_are_refused():
    assert len(permutations(24, 4).unique(dim=0)) == 24
    with pytest.raises(BadInput, match="25 permutations of 4 tiles: there are 24"):
        permutations(25, 4)
    with pytest.raises(BadInput, match=r"of 16 tiles are too many .* give at most 9 tiles"):
        permutations(2, 16)
    with pytest.raises(BadInput, match="0 permutations"):
        permutations(0)


def test_a_thousand_take_seconds(thousand):
    assert thousand < 8


def test_an_order_and_its_inverse_undo_each_other():
    pieces, orders = torch.rand(100, 9, 2, 3), permutations(100)
    assert torch.equal(shuffled(shuffled(pieces, orders), orders.argsort(dim=1)), pieces)
    shown = shuffled(pieces, orders)
    for i in (0, 41, 99):
        for place in range(9):
            assert torch.equal(shown[i, place], pieces[i, orders[i, place]])
