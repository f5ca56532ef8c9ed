from math import exp, log

import pytest
import torch
import torch.nn.functional as F

from sanslabel.losses import cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_is_the_loop(smoothing: float):
    logits, labels = torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 3, -1, 2, -1, 1])
    rows = []
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        if label >= 0:
            total = sum(map(exp, row))
            share = [smoothing / 4 + (1 - smoothing) * (c == label) for c in range(4)]
            rows.append(-sum(q * log(exp(value) / total) for q, value in zip(share, row, strict=True)))
    assert cross_entropy(logits, labels, smoothing).item() == pytest.approx(sum(rows) / 4)


def test_ends():
    assert cross_entropy(torch.zeros(5, 10), torch.arange(5)).item() == pytest.approx(log(10))
    assert cross_entropy(torch.zeros(5, 10), torch.full((5,), -1)).item() == 0


def test_if_all_are_labeled_it_is_torchs_mean():
    logits, labels = torch.randn(7, 4, requires_grad=True), torch.arange(7) % 4
    ours, theirs = cross_entropy(logits, labels), F.cross_entropy(logits, labels)
    assert torch.equal(ours, theirs)
    assert torch.equal(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)))


def test_half_precision_is_computed_in_float32():
    logits, labels = torch.randn(7, 4).bfloat16(), torch.arange(7) % 4
    assert torch.equal(cross_entropy(logits, labels), cross_entropy(logits.float(), labels))
