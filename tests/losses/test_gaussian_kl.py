import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from sanslabel.losses import gaussian_kl, kl_by_dimension, sampled_kl


def loop(mean, log_var):
    return torch.tensor(
        [
            sum((math.exp(v) + m * m - 1 - v) / 2 for m, v in zip(ms, vs, strict=True))
            for ms, vs in zip(mean.tolist(), log_var.tolist(), strict=True)
        ],
        dtype=torch.float64,
    )


@pytest.mark.parametrize(
    ("mean", "variance", "expected"),
    [(0.0, 1.0, 0.0), (1.0, 1.0, 0.5), (0.0, 4.0, 0.806853), (-1.0, 4.0, 1.306853), (0.0, 0.25, 0.318147)],
)
def test_known_values(mean, variance, expected):
    mean, log_var = torch.full((1, 1), mean), torch.full((1, 1), math.log(variance))
    assert gaussian_kl(mean, log_var).item() == pytest.approx(expected, abs=1e-6)


def test_the_prior_is_the_minimum():
    mean, log_var = (torch.zeros(2, 3, dtype=torch.float64).requires_grad_() for _ in "mv")
    loss = gaussian_kl(mean, log_var).sum()
    assert loss.item() == 0
    assert all(not g.any() for g in torch.autograd.grad(loss, (mean, log_var)))


def test_it_is_the_loop_and_torchs_own():
    mean, log_var = 2 * torch.randn(2, 5, 4, dtype=torch.float64)
    found = gaussian_kl(mean, log_var)
    torch.testing.assert_close(found, loop(mean, log_var))
    posterior = Normal(mean, (log_var / 2).exp())
    torch.testing.assert_close(found, kl_divergence(posterior, Normal(0, 1)).sum(dim=1).double())
    torch.testing.assert_close(found, kl_by_dimension(mean, log_var).sum(dim=1))


def test_samples_agree_in_the_mean_and_with_torchs_densities():
    generator = torch.Generator().manual_seed(0)
    mean, log_var = torch.tensor([[0.7, -1.2]]).double(), torch.tensor([[0.4, -0.9]]).double()
    std = (log_var / 2).exp()
    z = mean + std * torch.randn(200_000, 2, generator=generator, dtype=torch.float64)
    values = sampled_kl(mean, log_var, z)
    densities = Normal(mean, std).log_prob(z) - Normal(0, 1).log_prob(z)
    torch.testing.assert_close(values, densities.sum(dim=1))
    error = values.std().item() / len(z) ** 0.5
    assert values.mean().item() == pytest.approx(gaussian_kl(mean, log_var).item(), abs=4 * error)


def test_gradients():
    mean, log_var, z = (torch.randn(3, 2, dtype=torch.float64).requires_grad_() for _ in "mvz")
    assert torch.autograd.gradcheck(gaussian_kl, (mean, log_var))
    assert torch.autograd.gradcheck(sampled_kl, (mean, log_var, z))


def test_half_precision_inputs_are_computed_in_float32_also_under_autocast():
    mean, log_var = torch.randn(2, 8, 16).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = gaussian_kl(mean, log_var)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, gaussian_kl(mean.double(), log_var.double()).float())
