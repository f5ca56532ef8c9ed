import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity, normalize

from sanslabel.heads import Directions, Prototypes, RowContext, mlp


def kinds(head: nn.Sequential) -> list[str]:
    return [type(m).__name__ + "+bias" * (getattr(m, "bias", None) is not None) for m in head]


def test_layers_norms_and_biases_are_where_the_papers_have_them():
    assert kinds(mlp(8, 16, 4)) == ["Linear", "BatchNorm1d+bias", "ReLU", "Linear"]
    assert kinds(mlp(8, 16, 4, final_norm=True))[-2:] == ["Linear", "BatchNorm1d+bias"]
    assert kinds(mlp(8, 16, 16, 4, bias=True)) == [
        *["Linear+bias", "BatchNorm1d+bias", "ReLU"] * 2,
        "Linear",
    ]
    assert kinds(mlp(8, 16, 4, norm=False)) == ["Linear+bias", "ReLU", "Linear+bias"]
    assert [p.requires_grad for p in mlp(8, 16, 4, final_norm=True).parameters()] == [True] * 5 + [False]
    assert [m.out_features for m in mlp(8, 16, 4) if isinstance(m, nn.Linear)] == [16, 4]


def test_the_last_layer_may_have_a_bias_and_its_norm_no_scale():
    assert kinds(mlp(8, 16, 4, bias=True, final_bias=True))[-1] == "Linear+bias"
    assert kinds(mlp(8, 16, 4, norm=False, final_bias=False)) == ["Linear+bias", "ReLU", "Linear"]
    head = mlp(8, 16, 4, final_norm=True, affine=False)
    assert kinds(head)[-2:] == ["Linear", "BatchNorm1d"]
    assert not list(head[-1].parameters())
    assert kinds(head)[1] == "BatchNorm1d+bias", "the others keep theirs"
    z = head(torch.randn(64, 8))
    torch.testing.assert_close(z.var(dim=0, correction=0), torch.ones(4), rtol=1e-2, atol=0)
    assert kinds(mlp(8, 16, 4, activation=nn.GELU))[2] == "GELU"


def test_scores_are_cosines_with_prototypes_of_unit_length():
    prototypes, z = Prototypes(8, 5), 3 * torch.randn(6, 8)
    torch.testing.assert_close(prototypes.weight.norm(dim=1), torch.ones(5))
    scores = prototypes(z)
    for i in range(6):
        for k in range(5):
            expected = cosine_similarity(z[i], prototypes.weight[k], dim=0)
            assert scores[i, k].item() == pytest.approx(expected.item(), abs=1e-6)
    torch.testing.assert_close(prototypes(z * 100), scores)


def test_frozen_prototypes_hand_the_gradient_on_and_keep_none():
    prototypes = Prototypes(8, 5)
    for frozen in (True, False):
        z = torch.randn(6, 8).requires_grad_()
        prototypes.zero_grad()
        prototypes(z, frozen)[:, 0].sum().backward()
        assert z.grad.abs().max() > 0
        assert (prototypes.weight.grad is None) == frozen


def test_prototypes_are_brought_back_to_unit_length():
    prototypes = Prototypes(8, 5)
    with torch.no_grad():
        prototypes.weight.mul_(torch.rand(5, 1) + 1).add_(0.1)
    moved = prototypes.weight.detach().clone()
    prototypes.normalize_()
    torch.testing.assert_close(prototypes.weight.detach(), normalize(moved, dim=1))
    assert prototypes.weight.requires_grad


def test_scores_are_exact_under_autocast():
    prototypes, z = Prototypes(32, 10), torch.randn(16, 32)
    with torch.autocast("cpu", torch.bfloat16):
        scores = prototypes(z)
        assert prototypes(z.bfloat16()).dtype == torch.float32
    assert scores.dtype == torch.float32
    assert torch.equal(scores, prototypes(z))


def test_an_activation_takes_the_place_of_relu():
    assert kinds(mlp(8, 16, 16, 4, norm=False, activation=nn.GELU))[1::2] == ["GELU", "GELU"]


def test_scores_of_directions_are_cosines_whatever_lengths():
    directions = Directions(6, 5)
    torch.testing.assert_close(directions(torch.eye(6)).T.norm(dim=1), torch.ones(5))
    z = 3 * torch.randn(4, 6)
    scores = directions(z)
    torch.testing.assert_close(scores, cosine_similarity(z[:, None], directions.weight[None], dim=2))
    with torch.no_grad():
        directions.weight.mul_(7)
    torch.testing.assert_close(directions(z), scores)
    with torch.autocast("cpu", torch.bfloat16):
        assert directions(z.bfloat16()).dtype == torch.float32


def test_frozen_directions_pass_the_gradient_on_and_take_none():
    directions, z = Directions(6, 5), torch.randn(4, 6, requires_grad=True)
    directions(z, frozen=True).square().sum().backward()
    assert directions.weight.grad is None
    assert z.grad is not None
    directions(z).square().sum().backward()
    along = (directions.weight.grad * directions.weight).sum(dim=1)
    torch.testing.assert_close(along, torch.zeros(5), atol=1e-5, rtol=0)


def test_the_context_of_a_row_reaches_up_as_many_rows_as_it_has_blocks_and_never_down():
    torch.manual_seed(0)
    context = RowContext(width=4, hidden=64, blocks=2).double()  # so wide that no place is lost to ReLUs that are off
    grid = torch.randn(1, 4, 6, 5, dtype=torch.float64).requires_grad_()
    context(grid)[0, :, 3, 2].sum().backward()
    heard = grid.grad[0].abs().sum(dim=0) > 0  # (6, 5)
    assert heard.any(dim=1).tolist() == [False, True, True, True, False, False]
    assert heard[3].tolist() == [True] * 5, "its own row on both sides, one place further for each block"
