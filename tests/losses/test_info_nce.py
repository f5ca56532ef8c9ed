from math import exp, log

import pytest
import torch
from torch.nn.functional import cosine_similarity, cross_entropy, normalize

from sanslabel.losses import info_nce, nt_xent


def loop(query, positive, negatives, temperature):
    total = 0.0
    for q, p in zip(query, positive, strict=True):
        scores = [cosine_similarity(q, x, dim=0) / temperature for x in [p, *negatives]]
        total = total - scores[0] + torch.stack(scores).exp().sum().log()
    return total / len(query)


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize(("k", "value"), [(1, 0.693147), (10, 2.397895), (65_536, 11.090370)])
@pytest.mark.parametrize("temperature", [0.07, 0.2, 2.0])
def test_collapse_gives_the_log_of_all_candidates(k, value, temperature):
    z = random(8)
    loss = info_nce(z.expand(4, 8), z.expand(4, 8), z.expand(k, 8), temperature)
    assert loss.item() == pytest.approx(value, abs=1e-6)
    assert value == pytest.approx(log(1 + k), abs=1e-6)


@pytest.mark.parametrize("temperature", [0.05, 0.2, 1.0])
def test_a_key_that_is_the_query_among_orthogonal_ones(temperature):
    axes = torch.eye(12, dtype=torch.float64)
    loss = info_nce(axes[:2], axes[:2], axes[2:], temperature)
    assert loss.item() == pytest.approx(log(1 + 10 * exp(-1 / temperature)), rel=1e-9)


def test_a_small_temperature_leaves_no_loss_and_a_large_one_chance():
    axes = torch.eye(12, dtype=torch.float64)
    assert info_nce(axes[:2], axes[:2], axes[2:], 0.01).item() == pytest.approx(0, abs=1e-12)
    assert info_nce(axes[:2], axes[:2], axes[2:], 1e6).item() == pytest.approx(log(11), abs=1e-5)


def test_it_is_the_loop_of_the_paper():
    q, p, n = random(5, 4), random(5, 4), random(7, 4)
    assert info_nce(q, p, n, 0.3).item() == pytest.approx(loop(q, p, n, 0.3).item(), rel=1e-12)


def test_it_is_the_cross_entropy_of_label_zero():
    q, p, n = (normalize(x, dim=1) for x in (random(5, 4), random(5, 4), random(7, 4)))
    logits = torch.cat([(q * p).sum(dim=1, keepdim=True), q @ n.T], dim=1) / 0.2
    assert info_nce(q, p, n, 0.2).item() == pytest.approx(cross_entropy(logits, torch.zeros(5).long()).item())


@pytest.mark.parametrize("temperature", [0.005, 0.3])
def test_rows_drawn_from_a_bank_are_each_querys_own_negatives(temperature):
    q, p, bank, drawn = random(5, 4).requires_grad_(), random(5, 4), random(30, 4), torch.randint(0, 30, (5, 7))
    ours = info_nce(q, p, bank, temperature, drawn)
    theirs = torch.stack([info_nce(q[i, None], p[i, None], bank[drawn[i]], temperature) for i in range(5)]).mean()
    torch.testing.assert_close(ours, theirs)
    (found,), (expected,) = (torch.autograd.grad(loss, q) for loss in (ours, theirs))
    torch.testing.assert_close(found, expected)
    shared = info_nce(q, p, bank, temperature, drawn[:1]).item()
    assert shared == info_nce(q, p, bank[drawn[0]], temperature).item()
    assert shared != pytest.approx(ours.item())


def test_the_gradient_of_drawn_rows_is_right():
    q, p, bank, drawn = random(4, 3).requires_grad_(), random(4, 3).requires_grad_(), random(9, 3), [[0, 3], [8, 8]]
    rows = torch.tensor(drawn).repeat(2, 1)
    assert torch.autograd.gradcheck(lambda q, p: info_nce(q, p, bank, 0.3, rows), (q, p))


def test_nt_xent_is_its_mean_with_all_others_as_negatives():
    a, b = random(3, 4), random(3, 4)
    rows = []
    for x, y in ((a, b), (b, a)):
        for i in range(3):
            others = [j for j in range(3) if j != i]
            rows.append(info_nce(x[i, None], y[i, None], torch.cat([a[others], b[others]]), 0.4))
    assert torch.stack(rows).mean().item() == pytest.approx(nt_xent(a, b, 0.4).item(), rel=1e-12)


def test_lengths_and_the_order_of_negatives_do_not_matter():
    q, p, n = random(5, 4), random(5, 4), random(7, 4)
    loss = info_nce(q, p, n, 0.3).item()
    assert info_nce(3 * q, 0.1 * p, n * torch.rand(7, 1).add(0.1), 0.3).item() == pytest.approx(loss)
    assert info_nce(q, p, n.flip(0), 0.3).item() == pytest.approx(loss)
    assert info_nce(q, p.flip(0), n, 0.3).item() != pytest.approx(loss)


def test_gradient_is_orthogonal_to_each_query_and_right():
    q, p, n = (x.requires_grad_() for x in (random(4, 3), random(4, 3), random(5, 3)))
    (gradient,) = torch.autograd.grad(info_nce(q, p, n, 0.2), q)
    assert (gradient * q).sum(dim=1).abs().max() < 1e-12
    assert torch.autograd.gradcheck(lambda q, p, n: info_nce(q, p, n, 0.2), (q, p, n))


def test_exact_collapse_is_stationary():
    z = torch.ones(6, 4, dtype=torch.float64)
    q = z.clone().requires_grad_()
    assert torch.autograd.grad(info_nce(q, z, z, 0.2), q)[0].abs().max() < 1e-12


def test_half_precision_inputs_are_computed_in_float32_also_under_autocast():
    q, p, n = torch.randn(3, 64, 16).bfloat16()
    exact = info_nce(q.double(), p.double(), n.double(), 0.05).item()
    with torch.autocast("cpu", torch.bfloat16):
        loss = info_nce(q, p, n, 0.05)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("drawn", [None, torch.randint(0, 9, (5, 6), generator=torch.Generator().manual_seed(3))])
def test_several_positives_are_each_compared_with_the_negatives_alone(drawn):
    """VINCE's form. Where all are equal it is ln(1 + K), whatever the number of positives."""
    q, several, n = random(5, 4), random(5, 3, 4), random(9, 4)
    alone = torch.stack([info_nce(q, several[:, place], n, 0.3, drawn) for place in range(3)])
    assert info_nce(q, several, n, 0.3, drawn).item() == pytest.approx(alone.mean().item(), rel=1e-12)
    z = random(8)
    equal = info_nce(z.expand(4, 8), z.expand(4, 4, 8), z.expand(252, 8), 0.1)
    assert equal.item() == pytest.approx(5.533389, abs=1e-6)
