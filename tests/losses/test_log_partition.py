from math import log

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from sanslabel.losses import chunking, info_nce, instance_discrimination, log_partition, nt_xent


def random(*shape, **kind):
    return torch.randn(*shape, **({"dtype": torch.float64} | kind))


@pytest.fixture
def small_parts(monkeypatch):
    """Sides of 4 rows for pairs of others; the candidates' parts have 256 rows at least."""
    monkeypatch.setitem(chunking.CHUNK, "cpu", 16)


@pytest.mark.parametrize("temperature", [0.005, 0.2, 5.0])
@pytest.mark.parametrize("k", [1, 256, 700])
def test_in_parts_it_is_the_logarithm_of_the_sum(k, temperature, small_parts):
    q, c = normalize(random(6, 4), dim=1), random(k, 4)
    whole = (q @ normalize(c, dim=1).T / temperature).logsumexp(dim=1)
    torch.testing.assert_close(log_partition.log_partition(q, c, temperature), whole)


@pytest.mark.parametrize("temperature", [0.005, 0.2, 5.0])
@pytest.mark.parametrize("n", [2, 4, 9])
def test_of_others_it_is_the_logarithm_of_the_sum_without_oneself(n, temperature, small_parts):
    z = normalize(random(n, 3), dim=1)
    whole = (z @ z.T / temperature).fill_diagonal_(-torch.inf).logsumexp(dim=1)
    torch.testing.assert_close(log_partition.log_partition_of_others(z, temperature), whole)


def test_gradients_are_right(small_parts):
    q, c, z = random(2, 2).requires_grad_(), random(300, 2).requires_grad_(), random(9, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda q, c: log_partition.log_partition(q, c, 0.3), (q, c))
    assert torch.autograd.gradcheck(lambda z: log_partition.log_partition_of_others(z, 0.3), z)


def test_candidates_without_a_gradient_may_be_written_to_before_the_backward_pass():
    """As a memory is."""
    q, c = normalize(random(2, 3), dim=1).requires_grad_(), random(5, 3)
    before = torch.autograd.grad(log_partition.log_partition(q, c, 0.3).sum(), q)[0]
    found = log_partition.log_partition(q, c, 0.3).sum()
    c.zero_()
    assert torch.equal(torch.autograd.grad(found, q)[0], before)


N, K = 1100, 2000
"""whose scores are many enough to be made in parts"""


def written_out(loss, *tensors):
    """Losses of so many scores, from one matrix of them."""
    if loss == "info_nce":
        q, p, c = (normalize(x, dim=1) for x in tensors)
        logits = torch.cat([(q * p).sum(dim=1, keepdim=True), q @ c.T], dim=1) / 0.1
        return cross_entropy(logits, torch.zeros(N, dtype=torch.int64))
    if loss == "instance_discrimination":
        q, c = (normalize(x, dim=1) for x in tensors)
        return cross_entropy(q @ c.T / 0.1, torch.arange(N))
    z = normalize(torch.cat(tensors), dim=1)
    return cross_entropy((z @ z.T / 0.1).fill_diagonal_(-torch.inf), torch.arange(2 * N).roll(N))


CASES = {
    "info_nce": (lambda q, p, c: info_nce(q, p, c, 0.1), (N, N, K)),
    "instance_discrimination": (lambda q, c: instance_discrimination(q, c, torch.arange(N), 0.1), (N, K)),
    "nt_xent": (lambda a, b: nt_xent(a, b, 0.1), (N, N)),
}


@pytest.mark.parametrize("name", CASES)
def test_losses_of_many_scores_are_what_one_matrix_of_them_gives(name):
    loss, rows = CASES[name]
    tensors = [random(n, 8).requires_grad_() for n in rows]
    assert min(N * K, (2 * N) ** 2) >= chunking.LARGE["cpu"]
    ours, theirs = loss(*tensors), written_out(name, *tensors)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=0)
    for found, expected in zip(*(torch.autograd.grad(x, tensors) for x in (ours, theirs)), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_half_precision_inputs_are_computed_in_float32_also_under_autocast(name):
    loss, rows = CASES[name]
    tensors = [random(n, 8).bfloat16().requires_grad_() for n in rows]
    exact = written_out(name, *(x.detach().double() for x in tensors))
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(*tensors)
        gradients = torch.autograd.grad(found, tensors)  # the products of the backward pass are in float32, too
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(exact.item(), rel=1e-5)
    wide = [x.detach().double().requires_grad_() for x in tensors]
    for gradient, expected in zip(gradients, torch.autograd.grad(written_out(name, *wide), wide), strict=True):
        torch.testing.assert_close(gradient.double(), expected, rtol=1e-2, atol=1e-8)


@pytest.mark.parametrize(("n", "value"), [(1024, log(2047)), (2048, log(4095))])
def test_collapse_gives_the_log_of_all_others(n, value):
    z = random(8).expand(n, 8)
    assert nt_xent(z, z, 0.1).item() == pytest.approx(value, abs=1e-9)
