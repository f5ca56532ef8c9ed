import pytest
import torch

from sanslabel.losses import margin_energy, pull_away


def pull_away_loop(codes):
    n, total = len(codes), 0.0
    for i in range(n):
        for j in range(n):
            if i != j:
                a, b = codes[i], codes[j]
                total += float((a @ b / (a.norm() * b.norm())) ** 2)
    return total / (n * (n - 1))


@pytest.mark.parametrize("energy", [0.0, 0.3, 1.0])
def test_where_nothing_is_told_apart_the_loss_is_the_margin(energy):
    same = torch.full((7,), energy)
    assert margin_energy(same, same, 1.0).item() == pytest.approx(1.0)


def test_a_perfect_autoencoder_of_everything_costs_the_margin():
    zero = torch.zeros(4)
    assert margin_energy(zero, zero, 0.4).item() == pytest.approx(0.4)


def test_beyond_the_margin_samples_have_no_gradient():
    fake = torch.tensor([1.0, 1.5, 3.0]).requires_grad_()
    loss = margin_energy(torch.zeros(3), fake, 1.0)
    assert loss.item() == 0
    loss.backward()
    assert not fake.grad.any()


def test_the_hinge_is_of_each_sample_by_itself():
    """The mean energy of the samples is the margin, and yet one of them is within."""
    assert margin_energy(torch.zeros(2), torch.tensor([0.0, 2.0]), 1.0).item() == pytest.approx(0.5)


def test_it_is_the_loop():
    real, fake = torch.rand(5, dtype=torch.float64), 2 * torch.rand(3, dtype=torch.float64)
    expected = sum(real.tolist()) / 5 + sum(max(0.0, 0.8 - c) for c in fake.tolist()) / 3
    assert margin_energy(real, fake, 0.8).item() == pytest.approx(expected)


def test_pull_away_of_known_codes():
    assert pull_away(torch.ones(4, 3)).item() == pytest.approx(1.0)
    assert pull_away(torch.eye(5)).item() == 0
    assert pull_away(torch.tensor([[1.0, 2.0], [-2.0, -4.0]])).item() == pytest.approx(1.0), "the square has no sign"


def test_pull_away_is_the_loop_and_knows_no_lengths():
    codes = torch.randn(6, 4, dtype=torch.float64)
    assert pull_away(codes).item() == pytest.approx(pull_away_loop(codes))
    assert pull_away(codes * torch.rand(6, 1).double()).item() == pytest.approx(pull_away_loop(codes))


def test_gradients():
    real, fake = (torch.rand(4, dtype=torch.float64).requires_grad_() for _ in "rf")
    assert torch.autograd.gradcheck(lambda r, f: margin_energy(r, f, 2.0), (real, fake))
    assert torch.autograd.gradcheck(pull_away, (torch.randn(4, 3, dtype=torch.float64).requires_grad_(),))


def test_half_precision_inputs_are_computed_in_float32_also_under_autocast():
    codes = torch.randn(16, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = pull_away(codes)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(pull_away(codes.double()).item(), rel=1e-5)
