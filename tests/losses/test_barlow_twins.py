import pytest
import torch

from sanslabel.losses import barlow_twins


def loop(a, b, redundancy):
    """The paper's formula, number by number."""
    n, d = a.shape

    def standardized(z):
        columns = []
        for j in range(d):
            mean = sum(z[i, j] for i in range(n)) / n
            variance = sum((z[i, j] - mean) ** 2 for i in range(n)) / n
            columns.append([(z[i, j] - mean) / (variance + 1e-5) ** 0.5 for i in range(n)])
        return columns

    left, right = standardized(a), standardized(b)
    total = 0.0
    for i in range(d):
        for j in range(d):
            c = sum(x * y for x, y in zip(left[i], right[j], strict=True)) / n
            total += (1 - c) ** 2 if i == j else redundancy * c**2
    return total


def whitened(n: int, d: int) -> torch.Tensor:
    """(n, d) of mean 0 and covariance the identity, with n."""
    z = torch.randn(n, d, dtype=torch.float64)
    q, _ = torch.linalg.qr(z - z.mean(dim=0))
    return q * n**0.5


def test_identical_whitened_views_cost_nothing():
    z = 100 * whitened(64, 8)  # so that ε counts for little
    assert barlow_twins(z, z).item() == pytest.approx(0, abs=1e-12)
    assert barlow_twins(whitened(64, 8), whitened(64, 8)).item() > 1


def test_opposite_views_cost_4_a_dimension():
    z = 100 * whitened(64, 8)
    assert barlow_twins(z, -z).item() == pytest.approx(4 * 8, rel=1e-8)


def test_constant_embeddings_cost_one_a_dimension_and_have_no_gradient():
    z = torch.full((16, 8), 3.0, dtype=torch.float64).requires_grad_()
    loss = barlow_twins(z, z)
    assert loss.item() == pytest.approx(8, abs=1e-12)
    assert torch.autograd.grad(loss, z)[0].abs().max() == 0


def test_a_perturbed_collapse_is_left():
    z = (1 + 1e-2 * torch.randn(16, 4, dtype=torch.float64)).requires_grad_()
    (gradient,) = torch.autograd.grad(barlow_twins(z, z), z)
    assert (z - 1e-4 * gradient).std(dim=0).mean() > z.std(dim=0).mean()


def test_dimensions_that_all_say_the_same():
    z = 1e3 * torch.randn(32, 1, dtype=torch.float64).expand(32, 64)
    assert barlow_twins(z, z).item() == pytest.approx(20.5632, abs=1e-4)
    assert pytest.approx(20.5632) == 0.0051 * 64 * 63


def test_unrelated_views_cost_what_chance_gives():
    """E[on] = D (1 + 1/N), E[off] = D (D - 1) / N or so."""
    on = off = 0.0
    for _ in range(20):
        a, b = torch.randn(2, 256, 64, dtype=torch.float64)
        on += barlow_twins(a, b, 0.0).item() / 20
        off += (barlow_twins(a, b, 1.0) - barlow_twins(a, b, 0.0)).item() / 20
    assert on == pytest.approx(64 * (1 + 1 / 256), rel=0.03)
    assert off == pytest.approx(64 * 63 / 255, rel=0.03)


@pytest.mark.parametrize("shape", [(7, 4), (4, 4), (3, 6)])
@pytest.mark.parametrize("redundancy", [0.0051, 0.5])
def test_it_is_the_loop_of_the_paper(shape, redundancy):
    a, b = torch.randn(2, *shape, dtype=torch.float64)
    assert barlow_twins(a, b, redundancy).item() == pytest.approx(float(loop(a, b, redundancy)), rel=1e-12)


def test_symmetries():
    a, b = 1e3 * torch.randn(2, 12, 4, dtype=torch.float64)
    loss = barlow_twins(a, b).item()
    assert barlow_twins(b, a).item() == pytest.approx(loss)
    scale, shift = torch.rand(4).double() + 0.5, 1e3 * torch.rand(4).double()
    assert barlow_twins(a * scale + shift, b).item() == pytest.approx(loss, rel=1e-8)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    assert barlow_twins(a[order], b[order]).item() == pytest.approx(loss)
    assert barlow_twins(a[order], b).item() != pytest.approx(loss)
    sign = torch.tensor([1, -1, 1, 1])
    assert barlow_twins(a * sign, b * sign).item() == pytest.approx(loss)
    assert barlow_twins(a * sign, b).item() != pytest.approx(loss)


def test_gradient():
    a, b = (torch.randn(6, 3, dtype=torch.float64).requires_grad_() for _ in "ab")
    assert torch.autograd.gradcheck(barlow_twins, (a, b))


def test_half_precision_inputs_are_computed_in_float32_also_under_autocast():
    a, b = torch.randn(2, 64, 16).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = barlow_twins(a, b)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(barlow_twins(a.double(), b.double()).item(), rel=1e-5)
