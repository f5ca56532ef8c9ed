import math

import pytest
import torch
from torch.distributions import Bernoulli, Normal

from sanslabel.losses import bernoulli_nll, gaussian_nll


def bernoulli_loop(logits, target):
    def one(logit, x):
        p = 1 / (1 + math.exp(-logit))
        return -x * math.log(p) - (1 - x) * math.log(1 - p)

    rows = zip(logits.flatten(1).tolist(), target.flatten(1).tolist(), strict=True)
    return torch.tensor([sum(map(one, *row)) for row in rows], dtype=torch.float64)


@pytest.mark.parametrize("target", [torch.zeros(2, 1, 28, 28), torch.ones(2, 1, 28, 28), torch.rand(2, 1, 28, 28)])
def test_logits_of_0_cost_ln_2_a_pixel_whatever_the_image(target):
    nats = bernoulli_nll(torch.zeros(2, 1, 28, 28), target)
    torch.testing.assert_close(nats, torch.full((2,), 784 * math.log(2)), rtol=1e-6, atol=0)
    assert nats[0].item() == pytest.approx(543.43, abs=5e-3)


def test_bernoulli_is_the_loop_and_torchs_own():
    logits, target = 3 * torch.randn(4, 2, 3, dtype=torch.float64), torch.rand(4, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(bernoulli_nll(logits, target), bernoulli_loop(logits, target))
    on = (target > 0.5).double()
    own = -Bernoulli(logits=logits).log_prob(on).flatten(1).sum(dim=1)
    torch.testing.assert_close(bernoulli_nll(logits, on), own)


def test_sure_logits_do_not_overflow():
    logits, target = torch.tensor([[500.0, -500.0]]), torch.tensor([[0.0, 0.0]])
    assert bernoulli_nll(logits, target).item() == 500


def test_its_gradient_is_the_probability_minus_the_target():
    logits = torch.randn(3, 5, dtype=torch.float64).requires_grad_()
    target = torch.rand(3, 5, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(bernoulli_nll(logits, target).sum(), logits)
    torch.testing.assert_close(gradient, logits.sigmoid() - target)


@pytest.mark.parametrize("variance", [1.0, 0.1])
def test_gaussian_is_torchs_own(variance):
    mean, target = torch.randn(2, 4, 2, 3, dtype=torch.float64)
    own = -Normal(mean, variance**0.5).log_prob(target).flatten(1).sum(dim=1)
    torch.testing.assert_close(gaussian_nll(mean, target, variance), own)


def test_known_densities():
    one = torch.zeros(1, 1)
    assert gaussian_nll(one, one).item() == pytest.approx(0.918939, abs=1e-6)
    assert gaussian_nll(one, one + 1).item() == pytest.approx(1.418939, abs=1e-6)
    assert gaussian_nll(one, one, 0.01).item() == pytest.approx(-1.383647, abs=1e-6)


def test_gradients():
    mean, target = (torch.rand(3, 4, dtype=torch.float64).requires_grad_() for _ in "mt")
    assert torch.autograd.gradcheck(bernoulli_nll, (mean, target))
    assert torch.autograd.gradcheck(gaussian_nll, (mean, target))


def test_half_precision_inputs_are_computed_in_float32_also_under_autocast():
    logits, target = torch.randn(8, 64).bfloat16(), torch.rand(8, 64).bfloat16()
    for loss in (bernoulli_nll, gaussian_nll):
        with torch.autocast("cpu", torch.bfloat16):
            found = loss(logits, target)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, loss(logits.double(), target.double()).float())
