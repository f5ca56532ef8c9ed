import math

import pytest
import torch
from torch.nn.functional import normalize

from sanslabel.losses import sinkhorn


def scores(n: int = 12, k: int = 5, seed: int = 0) -> torch.Tensor:
    """Cosines of random embeddings with random prototypes."""
    generator = torch.Generator().manual_seed(seed)
    z, c = (normalize(torch.randn(m, 8, generator=generator, dtype=torch.float64), dim=1) for m in (n, k))
    return z @ c.T


def loop(s, epsilon, iterations):
    """The authors' algorithm, number by number."""
    n, k = s.shape
    q = [[math.exp(s[i, j].item() / epsilon) for j in range(k)] for i in range(n)]
    for _ in range(iterations):
        columns = [sum(q[i][j] for i in range(n)) for j in range(k)]
        q = [[q[i][j] / columns[j] / k for j in range(k)] for i in range(n)]
        rows = [sum(q[i]) for i in range(n)]
        q = [[q[i][j] / rows[i] / n for j in range(k)] for i in range(n)]
    return torch.tensor(q, dtype=torch.float64) * n


def in_logarithms(s, epsilon, iterations):
    """(N, K) the same without ever leaving the domain of logarithms."""
    n, k = s.shape
    log_q = s / epsilon
    for _ in range(iterations):
        log_q = log_q - log_q.logsumexp(dim=0, keepdim=True) - math.log(k)
        log_q = log_q - log_q.logsumexp(dim=1, keepdim=True) - math.log(n)
    return log_q.exp() * n


@pytest.mark.parametrize("row", [torch.zeros(6), torch.linspace(-1, 1, 6)])
def test_equal_rows_get_uniform_codes_even_where_prototypes_differ(row):
    """So that the target of a collapsed network is uniform."""
    q = sinkhorn(row.double().expand(8, 6))
    torch.testing.assert_close(q, torch.full((8, 6), 1 / 6, dtype=torch.float64), rtol=1e-12, atol=0)


def test_samples_sum_to_one_at_once_and_prototypes_to_their_part_in_the_end():
    for iterations in (1, 3, 100):
        sums = sinkhorn(scores(), iterations=iterations).sum(dim=1)
        torch.testing.assert_close(sums, torch.ones(12, dtype=torch.float64), rtol=1e-12, atol=0)
    part = torch.full((5,), 12 / 5, dtype=torch.float64)
    after_3, after_many = (sinkhorn(scores(), iterations=i).sum(dim=0) for i in (3, 1000))
    torch.testing.assert_close(after_3, part, rtol=0.3, atol=0)
    assert (after_3 - part).abs().max() > 1e-3
    torch.testing.assert_close(after_many, part, rtol=1e-6, atol=0)


@pytest.mark.parametrize("epsilon", [0.01, 0.005])
def test_a_small_epsilon_leaves_every_sample_its_assignment(epsilon):
    """exp(-2/ε) is 0 in float32: a sample that is far from all prototypes would drop out of the loss."""
    s = scores(64, 8).float()
    s[-1], s[0, 0] = -1, 1
    q = sinkhorn(s, epsilon)
    torch.testing.assert_close(q.sum(dim=1), torch.ones(64))
    torch.testing.assert_close(q.double(), in_logarithms(s.double(), epsilon, 3), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("shape", [(12, 5), (4, 9), (7, 7)])
@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_it_is_the_loop_of_the_authors_and_the_sum_of_logarithms(shape, iterations):
    s = scores(*shape)
    q = sinkhorn(s, 0.1, iterations)
    torch.testing.assert_close(q, loop(s, 0.1, iterations), rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(q, in_logarithms(s, 0.1, iterations), rtol=1e-10, atol=1e-14)


def test_constants_cancel():
    s = scores()
    torch.testing.assert_close(sinkhorn(s + 7), sinkhorn(s), rtol=1e-9, atol=1e-14)
    settled = sinkhorn(s, 0.2, 500)
    torch.testing.assert_close(sinkhorn(s + torch.rand(12, 1), 0.2, 500), settled, rtol=1e-6, atol=1e-10)
    torch.testing.assert_close(sinkhorn(s + torch.rand(1, 5), 0.2, 500), settled, rtol=1e-6, atol=1e-10)


def test_epsilon_goes_from_hard_to_uniform():
    s = scores(10, 5)  # two to each
    assert sinkhorn(s, 0.005, 100).max(dim=1).values.mean() > 0.95
    assert (sinkhorn(s, 100.0) - 1 / 5).abs().max() < 0.01


def test_order_of_samples_is_theirs():
    s, order = scores(), torch.arange(12).flip(0)
    torch.testing.assert_close(sinkhorn(s[order]), sinkhorn(s)[order], rtol=1e-10, atol=0)


def test_large_scores_and_prototypes_that_nobody_wants_stay_finite():
    s = torch.full((6, 4), -1.0)
    s[:, 0] = 1000.0  # exp overflows, and the other columns underflow
    q = sinkhorn(s)
    assert q.isfinite().all()
    torch.testing.assert_close(q.sum(dim=1), torch.ones(6))


def test_no_gradient_and_half_precision():
    s = scores(64, 16).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        q = sinkhorn(s)
    assert q.dtype == torch.float32
    assert not q.requires_grad
    torch.testing.assert_close(q.double(), sinkhorn(s.detach().double()), rtol=1e-4, atol=1e-6)
