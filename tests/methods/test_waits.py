"""How often a step waits for the device is counted where nobody waits, on a CPU."""

import pytest
import torch


@pytest.mark.parametrize(
    ("act", "count"),
    [
        (lambda x: x.sum().item(), 1),
        (lambda x: (x * 2 + torch.ones(5)).tolist(), 1),
        (lambda x: bool((x > 2).all()), 1),
        (lambda x: x[x > 2], 1),
        (lambda x: x[x > 2].sum().item(), 2),
        (lambda x: x.long().bincount(), 1),
        (lambda x: (x > 2)[x.long()], 0),
        (lambda x: torch.where(x > 2, x, 0).cumsum(0)[1:], 0),
        (lambda x: torch.ones(3).tolist(), 0),
    ],
)
def test_what_waits_is_seen(waits, act, count):
    x = torch.arange(5.0)
    with waits(x) as seen:
        act(x)
    assert len(seen.found) == count
