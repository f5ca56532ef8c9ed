import pytest
import torch

from sanslabel.losses import squared_error
from sanslabel.views import corrupted

P = 0.5


def keys(count: int) -> torch.Tensor:
    return torch.arange(count)


def test_it_is_the_loop():
    a, b = torch.randn(2, 3, 2, 4, dtype=torch.float64)
    rows = [
        [(x - y) ** 2 for x, y in zip(r.flatten().tolist(), t.flatten().tolist(), strict=True)]
        for r, t in zip(a, b, strict=True)
    ]
    torch.testing.assert_close(squared_error(a, b), torch.tensor([sum(row) / 8 for row in rows]).double())


def test_the_identity_leaves_the_variance_of_the_noise():
    """A network that returns what it is given: the loss of denoising is σ²."""
    y = torch.rand(64, 1, 28, 28) * 2 - 1
    loss = squared_error(corrupted(y, keys(64), "gaussian", 0.3, 0), y).mean()
    assert loss.item() == pytest.approx(0.09, rel=0.02)


@pytest.mark.parametrize("p", [0.2, 0.5, 0.8])
def test_the_identity_under_dropout_pays_for_what_is_gone_and_for_what_is_scaled(p):
    """p/(1 - p) · mean(y²), which at ½ is mean(y²)."""
    y = torch.rand(64, 1, 28, 28) * 2 - 1
    loss = squared_error(corrupted(y, keys(64), "dropout", p, 0), y).mean()
    assert loss.item() == pytest.approx(p / (1 - p) * y.square().mean().item(), rel=0.03)


def test_no_noise_is_an_autoencoder():
    y = torch.rand(4, 1, 8, 8) * 2 - 1
    for kind in ("gaussian", "dropout", "mask"):
        assert torch.equal(corrupted(y, keys(4), kind, 0.0, 0), y)


def gain_of_scalars(s: float, sigma: float, count: int = 400_000) -> tuple[float, float]:
    """The best linear denoiser of normal numbers and what it leaves, by least squares."""
    generator = torch.Generator().manual_seed(1)
    y = s * torch.randn(count, generator=generator, dtype=torch.float64)
    noisy = y + sigma * torch.randn(count, generator=generator, dtype=torch.float64)
    gain = (noisy @ y) / (noisy @ noisy)
    return gain.item(), squared_error((gain * noisy)[:, None], y[:, None]).mean().item()


@pytest.mark.parametrize(("s", "sigma"), [(1.0, 0.5), (0.7, 1.3)])
def test_the_best_denoiser_of_normal_data(s, sigma):
    """Gain s²/(s² + σ²), loss s²σ²/(s² + σ²), and its displacement is σ² times the score of the noisy density."""
    total = s**2 + sigma**2
    gain, loss = gain_of_scalars(s, sigma)
    assert gain == pytest.approx(s**2 / total, rel=0.01)
    assert loss == pytest.approx(s**2 * sigma**2 / total, rel=0.01)
    at = torch.linspace(-2, 2, 5, dtype=torch.float64).requires_grad_()
    density = torch.distributions.Normal(0.0, total**0.5).log_prob(at)
    (score,) = torch.autograd.grad(density.sum(), at)
    torch.testing.assert_close((gain - 1) * at.detach() / sigma**2, score, rtol=0.03, atol=1e-3)


def test_the_energy_of_a_linear_autoencoder_has_a_gradient_on_both_sides():
    """C(x) = ‖(A - I)x‖²/D depends on x twice: its gradient is 2(A - I)ᵀ(A - I)x/D."""
    a, x = torch.randn(5, 5, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(squared_error(x @ a.T, x).sum(), x)
    m = a - torch.eye(5, dtype=torch.float64)
    torch.testing.assert_close(gradient, 2 * x.detach() @ (m.T @ m).T / 5)


def test_gradient():
    a, b = (torch.randn(3, 4, dtype=torch.float64).requires_grad_() for _ in "ab")
    assert torch.autograd.gradcheck(squared_error, (a, b))


def test_half_precision_inputs_are_computed_in_float32_also_under_autocast():
    a, b = torch.randn(2, 8, 64).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = squared_error(a, b)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, squared_error(a.double(), b.double()).float())
