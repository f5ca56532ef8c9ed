from math import exp, sinh

import pytest
import torch
from torch.nn.functional import cosine_similarity, normalize

from sanslabel.losses import chance, mean_exponential, nce, partition


def loop(query, positive, negatives, temperature, samples, normalizer):
    """The paper's formulas, number by number."""
    total, k = 0.0, negatives.shape[-2]
    for i, q in enumerate(query):
        mine = negatives[i] if negatives.ndim == 3 else negatives
        p = [(cosine_similarity(q, m, dim=0) / temperature).exp() / normalizer for m in [positive[i], *mine]]
        h = [x / (x + k / samples) for x in p]
        total = total - h[0].log() - sum((1 - x).log() for x in h[1:])
    return total / len(query)


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize(("k", "value"), [(1, 1.386294), (10, 3.350997), (4096, 9.317888)])
def test_where_nothing_is_told_apart(k, value):
    """Every P is 1/n, once since all vectors are equal and once since all are orthogonal."""
    n = 50_000
    z = random(6)
    equal = nce(z.expand(4, 6), z.expand(4, 6), z.expand(k, 6), 0.07, n, n * exp(1 / 0.07))
    assert equal.item() == pytest.approx(value, abs=1e-6)
    axes = torch.eye(3, dtype=torch.float64)
    apart = nce(axes[:1], axes[1:2], axes[2:].expand(k, 3), 0.07, n, torch.tensor(float(n)))
    assert apart.item() == pytest.approx(value, abs=1e-6)
    assert chance(k) == pytest.approx(value, abs=1e-6)


def test_it_is_the_loop_of_the_paper():
    q, p, n = random(5, 4), random(5, 4), random(7, 4)
    assert nce(q, p, n, 0.3, 100, 150.0).item() == pytest.approx(loop(q, p, n, 0.3, 100, 150.0).item(), rel=1e-12)
    own = random(5, 7, 4)
    assert nce(q, p, own, 0.3, 100, 150.0).item() == pytest.approx(loop(q, p, own, 0.3, 100, 150.0).item(), rel=1e-12)


def test_shared_negatives_are_everyones_own():
    q, p, n = random(5, 4), random(5, 4), random(7, 4)
    assert nce(q, p, n.expand(5, 7, 4), 0.1, 90, 200.0).item() == pytest.approx(nce(q, p, n, 0.1, 90, 200.0).item())


def test_rows_drawn_from_a_bank_are_what_copies_of_them_are():
    q, p, bank, drawn = random(5, 4).requires_grad_(), random(5, 4), random(30, 4), torch.randint(0, 30, (5, 7))
    ours, theirs = nce(q, p, bank, 0.1, 30, 200.0, drawn), nce(q, p, bank[drawn], 0.1, 30, 200.0)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    (found,), (expected,) = (torch.autograd.grad(loss, q) for loss in (ours, theirs))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)
    assert torch.autograd.gradcheck(lambda q, p: nce(q, p, bank, 0.3, 30, 200.0, drawn), (q, p.requires_grad_()))


def test_rows_drawn_once_are_shared_by_all_queries():
    q, p, bank, drawn = random(5, 4), random(5, 4), random(30, 4), torch.randint(0, 30, (1, 7))
    assert nce(q, p, bank, 0.1, 30, 200.0, drawn) == nce(q, p, bank[drawn[0]], 0.1, 30, 200.0)
    assert partition(q, p, bank, 0.1, 30, drawn) == partition(q, p, bank[drawn[0]], 0.1, 30)


def test_the_partition_of_a_random_bank_is_that_of_the_sphere():
    """E exp(κ u) over the sphere of three dimensions is sinh κ / κ, and about exp(κ²/2D) in many."""
    torch.manual_seed(0)
    for dimensions, temperature, value in ((3, 0.5, sinh(2) / 2), (128, 0.2, exp(25 / 256))):
        q, bank = torch.randn(20, dimensions), torch.randn(9000, dimensions)
        for drawn in (None, torch.randint(0, 9000, (20, 5000))):
            found = partition(q, bank[:20], bank, temperature, 9000, drawn)
            assert found.item() == pytest.approx(9000 * value, rel=0.02)


def test_the_partition_is_the_mean_over_positives_and_negatives():
    q, p, bank, drawn = random(5, 4).requires_grad_(), random(5, 4), random(30, 4), torch.randint(0, 30, (5, 7))
    candidates = torch.cat([p[:, None], bank[drawn]], dim=1)  # (N, 1 + K, D)
    cosines = cosine_similarity(q[:, None], candidates, dim=2)
    found = partition(q, p, bank, 0.1, 30, drawn)
    assert found.item() == pytest.approx(30 * (cosines / 0.1).exp().mean().item(), rel=1e-12)
    assert not found.requires_grad
    with torch.autocast("cpu", torch.bfloat16):
        single = partition(q.float(), p.float(), bank.float(), 0.1, 30, drawn)
    assert single.item() == pytest.approx(found.item(), rel=1e-5)


def test_negatives_are_summed_not_averaged():
    """Twice the same negatives cost twice as much, where a bank of twice the size keeps K/n."""
    q, p, n = random(5, 4), random(5, 4), random(7, 4)
    positive = cosine_similarity(q, p, dim=1).div(0.5).exp() / 150
    own = -(positive / (positive + 7 / 100)).log().mean()
    once, twice = nce(q, p, n, 0.5, 100, 150.0), nce(q, p, torch.cat([n, n]), 0.5, 200, 150.0)
    assert (twice - own).item() == pytest.approx(2 * (once - own).item(), rel=1e-9)


def test_lengths_do_not_matter():
    q, p, n = random(5, 4), random(5, 4), random(7, 4)
    assert nce(3 * q, 0.1 * p, 7 * n, 0.3, 100, 150.0).item() == pytest.approx(nce(q, p, n, 0.3, 100, 150.0).item())


def test_certainty_neither_overflows_nor_vanishes():
    axes = torch.eye(3)
    loss = nce(axes[:1], axes[:1], axes[1:], 0.005, 1_000_000, 1e30)  # exp(200) is beyond float32
    assert torch.isfinite(loss)
    assert loss.item() == pytest.approx(0, abs=1e-5)


def test_gradient():
    q, p, n, own = (x.requires_grad_() for x in (random(4, 3), random(4, 3), random(5, 3), random(4, 5, 3)))
    assert torch.autograd.gradcheck(lambda q, p, n: nce(q, p, n, 0.3, 50, 80.0), (q, p, n))
    assert torch.autograd.gradcheck(lambda q, p, n: nce(q, p, n, 0.3, 50, 80.0), (q, p, own))


def test_half_precision_inputs_are_computed_in_float32_also_under_autocast():
    q, p, n = torch.randn(3, 64, 16).bfloat16()
    z = torch.tensor(150.0)
    exact = nce(q.double(), p.double(), n.double(), 0.07, 100, z).item()
    with torch.autocast("cpu", torch.bfloat16):
        loss = nce(q, p, n, 0.07, 100, z)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("drawn", [None, torch.randint(0, 9, (5, 6), generator=torch.Generator().manual_seed(3))])
def test_the_terms_of_several_positives_are_averaged(drawn):
    q, several, n = random(5, 4), random(5, 3, 4), random(9, 4)
    alone = torch.stack([nce(q, several[:, place], n, 0.3, 100, 150.0, drawn) for place in range(3)])
    assert nce(q, several, n, 0.3, 100, 150.0, drawn).item() == pytest.approx(alone.mean().item(), rel=1e-12)


@pytest.mark.parametrize(("k", "value"), [(64, 5.166655), (1024, 7.931960)])
def test_where_every_score_is_the_mean_of_the_negatives(k, value):
    """As AVID's authors normalize: by the mean over negatives, so that equal scores give chance."""
    z = random(8)
    drawn = torch.zeros(4, k, dtype=torch.int64)
    mean = mean_exponential(z.expand(4, 8), z.expand(3, 8), 0.07, drawn)
    loss = nce(z.expand(4, 8), z.expand(4, 8), z.expand(3, 8), 0.07, 3, 3 * mean, drawn)
    assert loss.item() == pytest.approx(value, abs=1e-6)
    assert chance(k) == pytest.approx(value, abs=1e-6)


def test_the_mean_exponential_of_a_random_bank_is_that_of_the_sphere():
    generator = torch.Generator().manual_seed(0)
    bank, q = (torch.randn(n, 128, generator=generator, dtype=torch.float64) for n in (4096, 256))
    drawn = torch.randint(0, 4096, (256, 1024), generator=generator)
    found = mean_exponential(q, bank, 0.07, drawn).item()
    assert found == pytest.approx(2.209, rel=0.02)
    loops = [(normalize(q[i], dim=0) @ normalize(bank[drawn[i]], dim=1).T / 0.07).exp().mean() for i in range(256)]
    assert found == pytest.approx(torch.stack(loops).mean().item(), rel=1e-9)
