import pytest
import torch

from sanslabel.losses import smooth_l1


def loop(prediction, target, beta):
    rows = []
    for p, t in zip(prediction.flatten(1).tolist(), target.flatten(1).tolist(), strict=True):
        d = [abs(a - b) for a, b in zip(p, t, strict=True)]
        rows.append(sum(x * x / (2 * beta) if x < beta else x - beta / 2 for x in d) / len(d))
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize(
    ("difference", "beta", "expected"), [(1.0, 2.0, 0.25), (3.0, 2.0, 2.0), (1.0, 1.0, 0.5), (3.0, 1.0, 2.5), (0, 1, 0)]
)
def test_known_values(difference, beta, expected):
    assert smooth_l1(torch.zeros(1, 1), torch.full((1, 1), difference), beta).tolist() == [expected]


def test_predictions_of_0_cost_a_quarter_at_beta_2():
    even = torch.linspace(-1, 1, 64, dtype=torch.float64).expand(5, 7, 64)
    target = torch.nn.functional.layer_norm(even, (64,), eps=0)
    assert 1 < target.abs().max() < 2
    torch.testing.assert_close(smooth_l1(torch.zeros_like(target), target, 2.0), torch.full((5,), 0.25).double())


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_it_is_the_loop(beta):
    prediction, target = 2 * torch.randn(2, 4, 3, 5, dtype=torch.float64)
    torch.testing.assert_close(smooth_l1(prediction, target, beta), loop(prediction, target, beta))


def test_gradient():
    prediction, target = (torch.randn(3, 2, 4, dtype=torch.float64).requires_grad_() for _ in "pt")
    assert torch.autograd.gradcheck(smooth_l1, (prediction, target))


def test_half_precision_inputs_are_computed_in_float32_also_under_autocast():
    prediction, target = torch.randn(2, 8, 4, 16).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = smooth_l1(prediction, target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, smooth_l1(prediction.double(), target.double()).float())
