import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy

from sanslabel.losses import deception, discrimination


def test_a_discriminator_that_cannot_tell():
    logits = torch.zeros(5)
    assert discrimination(logits, logits).item() == pytest.approx(1.386294, abs=1e-6)
    assert deception(logits).item() == pytest.approx(0.693147, abs=1e-6)


def test_they_are_the_loops_and_torchs_own():
    real, fake = torch.randn(2, 6, dtype=torch.float64)
    one, zero = torch.ones(6).double(), torch.zeros(6).double()
    d = [1 / (1 + math.exp(-x)) for x in real.tolist()], [1 / (1 + math.exp(-x)) for x in fake.tolist()]
    expected = sum(-math.log(p) for p in d[0]) / 6 + sum(-math.log(1 - p) for p in d[1]) / 6
    assert discrimination(real, fake).item() == pytest.approx(expected)
    own = binary_cross_entropy(real.sigmoid(), one) + binary_cross_entropy(fake.sigmoid(), zero)
    torch.testing.assert_close(discrimination(real, fake), own)
    torch.testing.assert_close(deception(fake), binary_cross_entropy(fake.sigmoid(), one))
    assert deception(fake).item() == pytest.approx(sum(-math.log(p) for p in d[1]) / 6)


def test_the_best_discriminator_of_two_known_densities_is_their_share():
    """Over three points with densities p and q, the logit that minimizes the loss is ln p/q: ½ where they agree."""
    p, q = torch.tensor([[5, 3, 2], [2, 3, 5]])
    logits = (p.double() / q).log().requires_grad_()
    loss = discrimination(*(logits.repeat_interleave(c) for c in (p, q)))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.abs().max() < 1e-12
    assert logits.sigmoid()[1].item() == 0.5


def test_a_sure_discriminator_leaves_the_generator_a_gradient():
    fake = torch.tensor([-40.0]).requires_grad_()
    (gradient,) = torch.autograd.grad(deception(fake), fake)
    assert gradient.item() == pytest.approx(-1.0)
    saturating = torch.log1p(-fake.sigmoid()).mean()
    (gradient,) = torch.autograd.grad(saturating, fake)
    assert abs(gradient.item()) < 1e-12


def test_sure_logits_do_not_overflow():
    assert discrimination(torch.tensor([-500.0]), torch.tensor([500.0])).item() == 1000


def test_gradients():
    real, fake = (torch.randn(4, dtype=torch.float64).requires_grad_() for _ in "rf")
    assert torch.autograd.gradcheck(discrimination, (real, fake))
    assert torch.autograd.gradcheck(deception, (fake,))


def test_half_precision_inputs_are_computed_in_float32_also_under_autocast():
    real, fake = torch.randn(2, 64).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = discrimination(real, fake)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(discrimination(real.double(), fake.double()).item(), rel=1e-5)
