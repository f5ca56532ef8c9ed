from math import exp, log

import pytest
import torch
from torch.nn.functional import cosine_similarity

from sanslabel.losses import chunking, cross_modal


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loop(a, b, temperature, group=None):
    total = 0.0
    for first, second in ((a, b), (b, a)):
        for i, row in enumerate(first):
            scores = [
                cosine_similarity(row, other, dim=0) / temperature
                for j, other in enumerate(second)
                if j == i or group is None or group[i] != group[j]
            ]
            own = cosine_similarity(row, second[i], dim=0) / temperature
            total = total - own + torch.stack(scores).exp().sum().log()
    return total / (2 * len(a))


@pytest.mark.parametrize(("n", "value"), [(64, 4.158883), (256, 5.545177)])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_collapse_gives_the_log_of_the_batch(n, value, temperature):
    z = random(8).expand(n, 8)
    assert cross_modal(z, z, temperature).item() == pytest.approx(value, abs=1e-6)
    assert cross_modal(z, -2 * z, temperature).item() == pytest.approx(log(n), abs=1e-9), "each a constant of its own"


def test_identical_pairs_of_orthonormal_samples():
    z = torch.eye(6, dtype=torch.float64)
    assert cross_modal(z, z, 0.2).item() == pytest.approx(log(1 + 5 * exp(-5)), abs=1e-12)


@pytest.mark.parametrize("group", [None, torch.tensor([0, 1, 0, 2, 3, 2])])
def test_it_is_the_loop_over_samples(group):
    a, b = random(6, 5), random(6, 5, seed=1)
    assert cross_modal(a, b, 0.3, group).item() == pytest.approx(loop(a, b, 0.3, group).item(), rel=1e-12)


def test_excluded_rows_and_a_margin_by_loops():
    a, b, margin, temperature = random(6, 5), random(6, 5, seed=1), 0.3, 0.2
    excluded = random(6, 6, seed=2) > 0.5
    excluded = excluded | excluded.T
    total = 0.0
    for first, second in ((a, b), (b, a)):
        for i, row in enumerate(first):
            own = (cosine_similarity(row, second[i], dim=0) - margin) / temperature
            others = [
                cosine_similarity(row, other, dim=0) / temperature
                for j, other in enumerate(second)
                if j != i and not excluded[i, j]
            ]
            total = total - own + torch.stack([own, *others]).exp().sum().log()
    assert cross_modal(a, b, temperature, None, excluded, margin).item() == pytest.approx(total.item() / 12, rel=1e-12)
    group = torch.tensor([0, 1, 0, 2, 3, 2])
    both = cross_modal(a, b, temperature, group, excluded)
    assert both.item() == pytest.approx(
        cross_modal(a, b, temperature, None, excluded | (group[:, None] == group)).item()
    )


def test_collapse_with_a_margin():
    z = random(8).expand(64, 8)
    assert cross_modal(z, z, 0.05, margin=0.3).item() == pytest.approx(log(1 + 63 * exp(0.3 / 0.05)), abs=1e-9)


def test_rows_of_one_clip_are_no_negatives_of_each_other():
    """Two rows of one clip: each is measured as in the batch without the other."""
    a, b = random(5, 4), random(5, 4, seed=1)
    twice = torch.tensor([0, 1, 2, 3, 3])
    rows = [torch.tensor([0, 1, 2, 3]), torch.tensor([0, 1, 2, 4])]
    similarity = cosine_similarity(a[:, None], b, dim=2) / 0.2

    def own(index: torch.Tensor) -> float:
        """The loss of the last row, in the batch of these rows."""
        few = similarity[index][:, index]
        return (few[-1].logsumexp(0) + few[:, -1].logsumexp(0) - 2 * few[-1, -1]).item() / 2

    others = sum(
        (row.logsumexp(0) + column.logsumexp(0)).item() / 2
        for row, column in zip(similarity[:3], similarity.T[:3], strict=True)
    )
    expected = (others - similarity.diagonal()[:3].sum().item() + own(rows[0]) + own(rows[1])) / 5
    assert cross_modal(a, b, 0.2, twice).item() == pytest.approx(expected, rel=1e-12)
    assert torch.equal(cross_modal(a, b, 0.2, torch.arange(5)), cross_modal(a, b, 0.2))


def test_symmetries():
    a, b, order = random(6, 5), random(6, 5, seed=1), torch.tensor([3, 1, 5, 0, 2, 4])
    loss = cross_modal(a, b, 0.3).item()
    assert cross_modal(b, a, 0.3).item() == pytest.approx(loss)
    assert cross_modal(a[order], b[order], 0.3).item() == pytest.approx(loss)
    assert cross_modal(3 * a, 0.2 * b, 0.3).item() == pytest.approx(loss)
    assert cross_modal(a, b[order], 0.3).item() != pytest.approx(loss)


@pytest.mark.parametrize("at_once", [True, False])
def test_gradient_of_both_signals_and_of_the_temperature(at_once, monkeypatch):
    monkeypatch.setitem(chunking.LARGE, "cpu", 1 << 20 if at_once else 1)
    a, b = random(5, 4).requires_grad_(), random(5, 4, seed=1).requires_grad_()
    temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(cross_modal, (a, b, temperature))


def test_chunks_give_the_loss_of_all_scores_at_once(monkeypatch):
    a, b = random(7, 4), random(7, 4, seed=1)
    whole = cross_modal(a, b, 0.1).item()
    monkeypatch.setitem(chunking.LARGE, "cpu", 1)
    monkeypatch.setitem(chunking.CHUNK, "cpu", 10)
    assert cross_modal(a, b, 0.1).item() == pytest.approx(whole, rel=1e-12)


def test_half_precision_inputs_are_computed_in_float32_also_under_autocast():
    a, b = torch.randn(2, 64, 32).bfloat16()
    exact = cross_modal(a.double(), b.double(), 0.05).item()
    with torch.autocast("cpu", torch.bfloat16):
        loss = cross_modal(a, b, 0.05)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact, rel=1e-5)
