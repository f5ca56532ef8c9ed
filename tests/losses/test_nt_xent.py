from math import exp, log

import pytest
import torch
from torch.nn.functional import cosine_similarity

from sanslabel.losses import nt_xent


def simplex(n: int) -> torch.Tensor:
    """n unit vectors with equal angles, cosine -1/(n-1)."""
    return torch.nn.functional.normalize(torch.eye(n, dtype=torch.float64) - 1 / n, dim=1)


def loop(a, b, temperature):
    z = list(a) + list(b)
    total = 0.0
    for i, zi in enumerate(z):
        scores = [cosine_similarity(zi, zk, dim=0) / temperature for k, zk in enumerate(z) if k != i]
        positive = cosine_similarity(zi, z[(i + len(a)) % len(z)], dim=0) / temperature
        total = total - positive + torch.stack(scores).exp().sum().log()
    return total / len(z)


@pytest.mark.parametrize(("n", "value"), [(4, 1.945910), (256, 6.236370)])
@pytest.mark.parametrize("temperature", [0.07, 0.5, 2.0])
def test_collapse_gives_the_log_of_all_others(n, value, temperature):
    z = torch.randn(8, dtype=torch.float64).expand(n, 8)
    assert nt_xent(z, z, temperature).item() == pytest.approx(value, abs=1e-6)
    assert value == pytest.approx(log(2 * n - 1), abs=1e-6)


def test_identical_views_of_orthonormal_images():
    z = torch.eye(4, dtype=torch.float64)
    assert nt_xent(z, z, 0.5).item() == pytest.approx(0.594438, abs=1e-6)
    assert nt_xent(z, z, 0.5).item() == pytest.approx(log(1 + 6 * exp(-2)), abs=1e-12)


def test_identical_views_on_a_simplex_are_the_minimum():
    z = simplex(4)
    least = nt_xent(z, z, 0.5).item()
    assert least == pytest.approx(0.348472, abs=1e-6)
    for seed in range(20):
        a, b = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert nt_xent(a, b, 0.5).item() > least


def test_it_is_the_loop_of_the_paper():
    a, b = torch.randn(2, 6, 5, dtype=torch.float64)
    assert nt_xent(a, b, 0.3).item() == pytest.approx(loop(a, b, 0.3).item(), rel=1e-12)


def test_symmetries():
    a, b = torch.randn(2, 6, 5, dtype=torch.float64)
    loss = nt_xent(a, b, 0.3).item()
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert nt_xent(b, a, 0.3).item() == pytest.approx(loss)
    assert nt_xent(a[order], b[order], 0.3).item() == pytest.approx(loss)
    assert nt_xent(a * torch.rand(6, 1).add(0.1), b * 7, 0.3).item() == pytest.approx(loss)
    assert nt_xent(a, b[order], 0.3).item() != pytest.approx(loss)


def test_gradient_is_orthogonal_to_each_row_and_right():
    a, b = torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True)
    a, b = a.detach().requires_grad_(), b.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(nt_xent(a, b, 0.2), a)
    assert (gradient * a).sum(dim=1).abs().max() < 1e-12
    assert gradient.abs().max() > 1e-3
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, 0.2), (a, b))


def test_arguments_may_be_named():
    a, b = torch.randn(2, 6, 5)
    assert torch.equal(nt_xent(a=a, b=b, temperature=0.3), nt_xent(a, b, 0.3))


def test_half_precision_inputs_are_computed_in_float32_also_under_autocast():
    a, b = torch.randn(2, 64, 32).bfloat16()
    exact = nt_xent(a.double(), b.double(), 0.05).item()
    with torch.autocast("cpu", torch.bfloat16):
        loss = nt_xent(a, b, 0.05)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact, rel=1e-5)
