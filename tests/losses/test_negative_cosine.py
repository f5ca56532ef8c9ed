import pytest
import torch
from torch.nn.functional import normalize

from sanslabel.losses import negative_cosine


def loop(p, z):
    """The paper's formula, number by number."""
    total = 0.0
    for i in range(len(p)):
        lengths = [sum(float(x) ** 2 for x in row) ** 0.5 for row in (p[i], z[i])]
        total -= sum(float(x) * float(y) for x, y in zip(p[i], z[i], strict=True)) / lengths[0] / lengths[1]
    return total / len(p)


def test_agreement_right_angles_and_opposites_give_their_cosines():
    p = torch.randn(16, 8, dtype=torch.float64)
    right = p.clone()
    right[:, 0::2], right[:, 1::2] = -p[:, 1::2], p[:, 0::2]
    for z, expected in ((p, -1.0), (right, 0.0), (-p, 1.0)):
        assert negative_cosine(p, z).item() == pytest.approx(expected, abs=1e-12)
        assert 2 + 2 * negative_cosine(p, z).item() == pytest.approx(2 + 2 * expected, abs=1e-12)  # BYOL: 0, 2 and 4


@pytest.mark.parametrize("shape", [(1, 3), (7, 4), (4, 6)])
def test_it_is_the_loop_of_the_paper(shape):
    p, z = torch.randn(2, *shape, dtype=torch.float64)
    assert negative_cosine(p, z).item() == pytest.approx(loop(p, z), rel=1e-12)


def test_it_is_the_squared_distance_of_unit_vectors():
    p, z = torch.randn(2, 16, 8, dtype=torch.float64)
    squared = (normalize(p, dim=1) - normalize(z, dim=1)).square().sum(dim=1).mean()
    assert 2 + 2 * negative_cosine(p, z).item() == pytest.approx(squared.item(), rel=1e-12)


def test_lengths_do_not_count():
    p, z = torch.randn(2, 16, 8, dtype=torch.float64)
    scales = torch.rand(2, 16, 1, dtype=torch.float64) + 0.1
    assert negative_cosine(p * scales[0], z * scales[1]).item() == pytest.approx(negative_cosine(p, z).item())


def test_collapse_is_the_minimum_and_exactly_stationary():
    p = torch.full((16, 4), 2.0, dtype=torch.float64).requires_grad_()
    loss = negative_cosine(p, p.detach())
    assert loss.item() == -1
    assert torch.autograd.grad(loss, p)[0].abs().max() < 1e-15


def test_without_a_stop_gradient_embeddings_that_agree_stay():
    z = torch.randn(16, 8, dtype=torch.float64).requires_grad_()
    assert torch.autograd.grad(negative_cosine(z, z), z)[0].abs().max() < 1e-15


def test_zeros_are_at_right_angles_to_everything():
    p = torch.zeros(4, 3, dtype=torch.float64).requires_grad_()
    loss = negative_cosine(p, torch.randn(4, 3, dtype=torch.float64))
    assert loss.item() == 0
    assert torch.autograd.grad(loss, p)[0].isfinite().all()


def test_gradient():
    p, z = (torch.randn(6, 3, dtype=torch.float64).requires_grad_() for _ in "pz")
    assert torch.autograd.gradcheck(negative_cosine, (p, z))


def test_half_precision_inputs_are_computed_in_float32_also_under_autocast():
    p, z = torch.randn(2, 64, 16).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = negative_cosine(p, z)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(negative_cosine(p.double(), z.double()).item(), rel=1e-4, abs=1e-6)
