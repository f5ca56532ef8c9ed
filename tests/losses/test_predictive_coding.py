from math import exp, log

import pytest
import torch
from torch.nn.functional import cross_entropy

from sanslabel.losses import candidate_scores, chunking, predictive_coding

KINDS = ["both", "same", "other"]


def loop(predicted, targets, positive, negatives):
    """Number by number."""
    n, q, _ = predicted.shape
    total = 0.0
    for i in range(n):
        for k in range(q):
            right = float(predicted[i, k] @ targets[i, positive[k]])
            wrong = [
                float(predicted[i, k] @ targets[j, p])
                for j in range(n)
                for p in range(targets.shape[1])
                if (j, p) != (i, int(positive[k])) and (negatives == "both" or (negatives == "same") == (j == i))
            ]
            total += log(exp(right) + sum(map(exp, wrong))) - right
    return total / (n * q)


def example(n=3, q=5, p=4, d=6, dtype=torch.float64):
    return (
        torch.randn(n, q, d, dtype=dtype),
        torch.randn(n, p, d, dtype=dtype),
        torch.tensor([3, 0, 0, 2, 1])[:q],
    )


@pytest.mark.parametrize(("negatives", "candidates"), [("both", 12), ("same", 4), ("other", 9)])
def test_predictions_of_zero_cost_ln_of_the_candidates(negatives, candidates):
    predicted, targets, positive = example()
    loss = predictive_coding(0 * predicted, targets, positive, negatives)
    assert loss.item() == pytest.approx(log(candidates), rel=1e-12)
    assert predictive_coding(predicted, 0 * targets, positive, negatives).item() == pytest.approx(log(candidates))


@pytest.mark.parametrize("negatives", KINDS)
def test_it_is_the_loop(negatives):
    predicted, targets, positive = example()
    ours = predictive_coding(predicted, targets, positive, negatives).item()
    assert ours == pytest.approx(loop(predicted, targets, positive, negatives), rel=1e-12)


@pytest.mark.parametrize("negatives", KINDS)
def test_perfect_predictions_cost_nothing_as_they_grow(negatives):
    targets = torch.eye(12, dtype=torch.float64).view(3, 4, 12)
    positive = torch.arange(4)
    losses = [predictive_coding(scale * targets, targets, positive, negatives).item() for scale in (1, 10, 100)]
    assert losses[0] > losses[1] > losses[2]
    assert losses[2] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("negatives", KINDS)
def test_the_bound_on_information_never_exceeds_ln_of_the_candidates(negatives):
    predicted, targets, positive = example()
    candidates = {"both": 12, "same": 4, "other": 9}[negatives]
    for scale in (0.1, 1, 10, 100):
        assert log(candidates) - predictive_coding(scale * predicted, targets, positive, negatives) <= log(candidates)


def test_other_images_count_only_where_they_are_negatives():
    predicted, targets, positive = example()
    changed = targets.clone()
    changed[1:] += 1
    first = (predicted[:1], positive)
    for negatives in KINDS:
        scores, right = candidate_scores(first[0], targets, first[1], negatives)
        after, _ = candidate_scores(first[0], changed, first[1], negatives)
        assert torch.equal(scores, after) == (negatives == "same")
        found = scores.gather(1, right[:, None])[:, 0]
        torch.testing.assert_close(found, (predicted[0] * targets[0, positive]).sum(dim=1))
        assert scores.isfinite().sum(dim=1).tolist() == [{"both": 12, "same": 4, "other": 9}[negatives]] * 5


@pytest.mark.parametrize("negatives", KINDS)
def test_gradient(negatives):
    predicted, targets, positive = example()
    inputs = (predicted.requires_grad_(), targets.requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: predictive_coding(a, b, positive, negatives), inputs)


@pytest.mark.parametrize("negatives", KINDS)
def test_half_precision_inputs_are_computed_in_float32_also_under_autocast(negatives):
    predicted, targets, positive = example(dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        loss = predictive_coding(predicted, targets, positive, negatives)
    assert loss.dtype == torch.float32
    exact = predictive_coding(predicted.double(), targets.double(), positive, negatives).item()
    assert loss.item() == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("negatives", KINDS)
def test_scores_of_some_images_are_rows_of_those_of_all(negatives):
    predicted, targets, positive = example()
    scores, right = candidate_scores(predicted, targets, positive, negatives)
    some, at = candidate_scores(predicted[1:], targets, positive, negatives, first=1)
    torch.testing.assert_close(some, scores[5:])
    assert torch.equal(at, right[5:])


@pytest.mark.parametrize("negatives", ["both", "other"])
def test_many_scores_go_part_by_part_to_the_same_loss_and_gradient(negatives, monkeypatch):
    """A part is of two images here, and the last one of one."""
    monkeypatch.setitem(chunking.CHUNK, "cpu", 1 << 16)
    predicted, targets, positive = torch.randn(9, 130, 8), torch.randn(17, 110, 8), torch.arange(130) % 110
    count = predicted[..., 0].numel() * targets[..., 0].numel()
    assert count >= chunking.LARGE["cpu"]
    assert 8 * chunking.CHUNK["cpu"] // (count // 9) == 2
    inputs = [(2 * x.double()).requires_grad_() for x in (predicted, targets)]
    ours = predictive_coding(*inputs, positive, negatives)
    whole = cross_entropy(*candidate_scores(*inputs, positive, negatives))
    torch.testing.assert_close(ours, whole, rtol=1e-12, atol=0)
    found, expected = (torch.autograd.grad(3 * loss, inputs) for loss in (ours, whole))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-15)


def test_many_scores_of_half_precision_are_computed_in_float32_also_under_autocast():
    predicted, targets, positive = torch.randn(9, 130, 8), torch.randn(17, 110, 8), torch.arange(130) % 110
    halves = [x.bfloat16().requires_grad_() for x in (predicted, targets)]
    wide = [x.detach().double().requires_grad_() for x in halves]
    with torch.autocast("cpu", torch.bfloat16):
        loss = predictive_coding(*halves, positive)
        gradients = torch.autograd.grad(loss, halves)
    exact = cross_entropy(*candidate_scores(*wide, positive))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)
    for found, expected in zip(gradients, torch.autograd.grad(exact, wide), strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-2, atol=1e-8)
