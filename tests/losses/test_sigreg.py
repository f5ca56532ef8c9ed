import cmath
import math

import pytest
import torch
from torch.nn.functional import normalize

from sanslabel.losses import sigreg


def directions(m: int, d: int) -> torch.Tensor:
    return normalize(torch.randn(m, d, dtype=torch.float64), dim=1)


def loop(z, directions):
    """The statistic of each direction by the trapezoid rule over both halves of [-3, 3]."""
    n, step = len(z), 3 / 16
    total = 0.0
    for a in directions:
        x = [float(a @ row) for row in z]
        for k in range(-16, 17):
            t = k * step
            normal = math.exp(-(t**2) / 2)
            empirical = sum(cmath.exp(1j * t * value) for value in x) / n
            total += n * (0.5 if abs(k) == 16 else 1.0) * step * abs(empirical - normal) ** 2 * normal
    return total / len(directions)


ONE = torch.ones(1, 1, dtype=torch.float64)


@pytest.mark.parametrize(("value", "expected"), [(0.0, 0.402048), (1.0, 1.186006), (3.0, 3.573160)])
@pytest.mark.parametrize("n", [1, 64])
def test_constant_embeddings(value, expected, n):
    z = torch.full((n, 1), value, dtype=torch.float64)
    assert sigreg(z, ONE).item() == pytest.approx(expected * n, abs=2e-6 * n)
    assert sigreg(z * 0, directions(16, 1)).item() == pytest.approx(0.402048 * n, abs=2e-6 * n)


def test_two_points_are_nearer_to_normal_than_one():
    z = torch.tensor([1.0, -1.0] * 32, dtype=torch.float64)[:, None]
    assert sigreg(z, ONE).item() == pytest.approx(0.102830 * 64, abs=1e-4)


@pytest.mark.parametrize("n", [32, 256])
def test_normal_embeddings_leave_a_floor_that_does_not_grow_with_n(n):
    generator = torch.Generator().manual_seed(n)
    values = [sigreg(torch.randn(n, 1, generator=generator).double(), ONE).item() for _ in range(3000)]
    error = torch.tensor(values).std().item() / 3000**0.5
    assert sum(values) / 3000 == pytest.approx(1.052464, abs=4 * error)


@pytest.mark.parametrize("shape", [(7, 4, 3), (5, 1, 1)])
def test_it_is_the_loop_of_the_paper(shape):
    n, d, m = shape
    z, a = torch.randn(n, d, dtype=torch.float64) + 0.3, directions(m, d)
    assert sigreg(z, a).item() == pytest.approx(loop(z, a), rel=1e-12)


def test_symmetries():
    z, a = torch.randn(12, 4, dtype=torch.float64) + 0.2, directions(8, 4)
    loss = sigreg(z, a).item()
    assert sigreg(-z, a).item() == pytest.approx(loss)
    assert sigreg(z, -a).item() == pytest.approx(loss)
    assert sigreg(z.flip(0), a).item() == pytest.approx(loss)
    turn, _ = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))
    assert sigreg(z @ turn, a @ turn).item() == pytest.approx(loss)


def test_the_origin_has_no_gradient_and_any_other_point_only_moves():
    """Exact collapse stays collapsed; a perturbed one spreads."""
    a = directions(64, 4)
    for value in (0.0, 1.0):
        z = torch.full((16, 4), value, dtype=torch.float64).requires_grad_()
        (gradient,) = torch.autograd.grad(sigreg(z, a), z)
        torch.testing.assert_close(gradient, gradient[:1].expand(16, 4), rtol=0, atol=1e-12)
        assert (gradient.abs().max() < 1e-12) == (value == 0)
    z = (1e-3 * torch.randn(16, 4, dtype=torch.float64)).requires_grad_()
    (gradient,) = torch.autograd.grad(sigreg(z, a), z)
    assert (z - 0.1 * gradient).std(dim=0).mean() > z.std(dim=0).mean()


def test_gradient():
    z, a = torch.randn(6, 3, dtype=torch.float64).requires_grad_(), directions(5, 3)
    assert torch.autograd.gradcheck(lambda z: sigreg(z, a), (z,))


def test_half_precision_inputs_are_computed_in_float32_also_under_autocast():
    z, a = torch.randn(64, 16).bfloat16(), directions(32, 16).float()
    with torch.autocast("cpu", torch.bfloat16):
        loss = sigreg(z, a)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(sigreg(z.double(), a.double()).item(), rel=1e-5)
