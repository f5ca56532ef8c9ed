import pytest
import torch

from sanslabel.losses import covariance_penalty, variance_hinge, vicreg


def loop(a, b, weights=(25.0, 25.0, 1.0)):
    """The paper's formulas, number by number."""
    n, d = a.shape
    spread = decorrelation = 0.0
    for z in (a, b):
        means = [sum(z[i, j] for i in range(n)) / n for j in range(d)]
        c = [
            [sum((z[i, j] - means[j]) * (z[i, k] - means[k]) for i in range(n)) / (n - 1) for k in range(d)]
            for j in range(d)
        ]
        spread += sum(max(0.0, 1 - (c[j][j] + 1e-4) ** 0.5) for j in range(d)) / d / 2
        decorrelation += sum(c[j][k] ** 2 for j in range(d) for k in range(d) if j != k) / d
    invariance = sum((a[i, j] - b[i, j]) ** 2 for i in range(n) for j in range(d)) / (n * d)
    return weights[0] * invariance + weights[1] * spread + weights[2] * decorrelation


def whitened(n: int, d: int) -> torch.Tensor:
    """(n, d) of mean 0 and covariance the identity, with n - 1."""
    z = torch.randn(n, d, dtype=torch.float64)
    q, _ = torch.linalg.qr(z - z.mean(dim=0))
    return q * (n - 1) ** 0.5


def test_constant_embeddings_give_25_times_99_hundredths():
    z = torch.full((16, 8), 3.0, dtype=torch.float64)
    assert vicreg(z, z).item() == pytest.approx(24.75, abs=1e-9)
    assert variance_hinge(z).item() == pytest.approx(0.99, abs=1e-12)


def test_spread_out_decorrelated_identical_views_cost_nothing():
    z = whitened(64, 8) * 1.01
    assert vicreg(z, z).item() == pytest.approx(0, abs=1e-12)


def test_a_constant_shift_is_all_invariance():
    z = torch.randn(32, 6, dtype=torch.float64)
    base = vicreg(z, z).item()
    assert vicreg(z, z + 0.5).item() == pytest.approx(base + 25 * 0.25, rel=1e-12)


def test_a_repeated_dimension_costs_its_variance_squared():
    z = whitened(64, 4)
    repeated = torch.cat([z, z[:, :1]], dim=1) * 1.3  # one pair of equal columns of variance 1.69, two ordered pairs
    assert covariance_penalty(repeated).item() == pytest.approx(2 * 1.3**4 / 5, rel=1e-9)


@pytest.mark.parametrize("shape", [(7, 4), (4, 4), (3, 6)])  # the smaller product differs
def test_it_is_the_loop_of_the_paper(shape):
    a, b = torch.randn(2, *shape, dtype=torch.float64)
    assert vicreg(a, b).item() == pytest.approx(float(loop(a, b)), rel=1e-12)
    assert vicreg(a, b, 3.0, 2.0, 0.5).item() == pytest.approx(float(loop(a, b, (3.0, 2.0, 0.5))), rel=1e-12)


def test_order_of_samples_matters_to_invariance_alone():
    a, b = torch.randn(2, 12, 4, dtype=torch.float64)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    assert vicreg(a[order], b[order]).item() == pytest.approx(vicreg(a, b).item(), rel=1e-12)
    assert vicreg(a[order], b, 0.0).item() == pytest.approx(vicreg(a, b, 0.0).item(), rel=1e-12)
    assert vicreg(a[order], b).item() != pytest.approx(vicreg(a, b).item())


def test_exact_collapse_is_stationary_and_a_perturbed_one_is_left():
    z = torch.ones(16, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.grad(vicreg(z, z), z)[0].abs().max() == 0
    z = (1 + 1e-3 * torch.randn(16, 4, dtype=torch.float64)).requires_grad_()
    (gradient,) = torch.autograd.grad(vicreg(z, z), z)
    assert (z - 0.1 * gradient).std(dim=0).mean() > z.std(dim=0).mean()


def test_gradient():
    a, b = (torch.randn(6, 3, dtype=torch.float64).requires_grad_() for _ in "ab")
    assert torch.autograd.gradcheck(vicreg, (a, b))


def test_half_precision_inputs_are_computed_in_float32_also_under_autocast():
    a, b = torch.randn(2, 64, 16).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = vicreg(a, b)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(vicreg(a.double(), b.double()).item(), rel=1e-5)
