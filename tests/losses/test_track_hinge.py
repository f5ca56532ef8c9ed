import random

import pytest
import torch
from torch.nn.functional import cosine_similarity

from sanslabel.losses import track_hinge
from sanslabel.losses.track_hinge import draw_negatives


def cosine(a, b) -> float:
    return cosine_similarity(a, b, dim=0).item()


def authors_loss(a, b, margin, negatives=4, hard=2, seed=0) -> float:
    """The released layer, pair by pair, with the order of its shuffles from Python's generator."""
    shuffle, z, total = random.Random(seed).shuffle, [*a, *b], 0.0
    for i in range(len(a)):
        near = cosine(a[i], b[i])
        violating = [j for j in range(len(z)) if j % len(a) != i and margin - near + cosine(a[i], z[j]) > 0]
        chosen = violating
        if len(violating) > negatives:
            violating.sort(key=lambda j: -cosine(a[i], z[j]))
            hardest, rest = violating[:negatives], violating[negatives:]
            shuffle(hardest)
            rest += hardest[hard:]
            shuffle(rest)
            chosen = hardest[:hard] + rest[: negatives - hard]
        for j in chosen:
            total += max(0.0, margin - near + cosine(a[i], z[j])) + max(0.0, margin - near + cosine(b[i], z[j]))
    return total / (negatives * len(a) * 2)


def pair(n: int, d: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return a, a + 0.3 * torch.randn(n, d, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("margin", [0.2, 0.5, 1.0])
def test_constant_embeddings_cost_the_margin_without_a_gradient(margin):
    z = torch.randn(6, dtype=torch.float64).repeat(40, 1)
    a, b = z.clone().requires_grad_(), z.clone().requires_grad_()
    loss = track_hinge(a, b, margin)
    assert loss.item() == pytest.approx(margin, abs=1e-12)
    assert all(g.abs().max() < 1e-12 for g in torch.autograd.grad(loss, (a, b)))


@pytest.mark.parametrize("margin", [0.1, 0.5, 1.0])
def test_equal_partners_and_orthogonal_others_cost_nothing(margin):
    z = torch.eye(6, dtype=torch.float64)
    assert track_hinge(z, z, margin).item() == 0
    assert track_hinge(z, z, margin + 0.25).item() == (0 if margin < 1 else pytest.approx(0.25))


def test_it_is_0_exactly_if_each_negative_is_further_by_the_margin():
    """Unit vectors of a plane at known angles: two objects whose cosines are known."""
    for degrees, margin in [(60, 0.49), (60, 0.51), (100, 1.1), (100, 1.2)]:
        angle = torch.tensor(degrees, dtype=torch.float64).deg2rad()
        z = torch.stack([torch.tensor([1.0, 0.0], dtype=torch.float64), torch.stack([angle.cos(), angle.sin()])])
        assert (track_hinge(z, z, margin).item() == 0) == (1 - angle.cos().item() >= margin)


def test_40_pairs_have_320_terms_even_if_10_are_active():
    """Ten pairs have one negative each that is nearer than the margin allows, all others are orthogonal."""
    a = torch.eye(40, 64, dtype=torch.float64)
    b = a.clone()
    a[:10] = torch.nn.functional.normalize(a[:10] + 0.5 * a[10:20], dim=1)
    near, far = (a[0] @ b[0]).item(), (a[0] @ a[10]).item()
    margin = near - far + 0.1
    violated = [
        (i, j) for i in range(40) for j in range(80) if j % 40 != i and margin - a[i] @ b[i] + a[i] @ [*a, *b][j] > 0
    ]
    terms = [
        max(0.0, (margin - a[i] @ b[i] + anchor @ [*a, *b][j]).item()) for i, j in violated for anchor in (a[i], b[i])
    ]
    assert len([term for term in terms if term > 0]) < 60
    assert track_hinge(a, b, margin).item() == pytest.approx(sum(terms) / 320, rel=1e-12)


@pytest.mark.parametrize(("margin", "negatives"), [(0.05, 40), (0.5, 40), (1.0, 40)])
def test_it_is_the_loop_if_every_violating_negative_is_drawn(margin, negatives):
    a, b = pair(21, 6)
    expected = authors_loss(a, b, margin, negatives)
    assert expected > 0
    assert track_hinge(a, b, margin, negatives=negatives).item() == pytest.approx(expected, rel=1e-12)


def test_its_mean_over_keys_is_the_loops_over_shuffles():
    a, b = pair(12, 4)
    ours = torch.stack([track_hinge(a, b, 0.8, key=key) for key in range(400)])
    theirs = torch.tensor([authors_loss(a, b, 0.8, seed=seed) for seed in range(400)])
    assert ours.std() == pytest.approx(theirs.std().item(), rel=0.2)
    assert ours.mean().item() == pytest.approx(theirs.mean().item(), abs=4 * theirs.std().item() / 400**0.5 * 2**0.5)


def test_half_the_negatives_are_among_the_hardest_and_none_is_drawn_twice():
    terms = torch.rand(500, 30, generator=torch.Generator().manual_seed(0)) + 0.1
    drawn, active = draw_negatives(terms, torch.ones(500, 30, dtype=torch.bool), 4, 2, key=3)
    assert active.all()
    assert all(len(set(row)) == 4 for row in drawn.tolist())
    rank = terms.argsort(dim=1, descending=True).argsort(dim=1).gather(1, drawn)
    of_hardest = (rank < 4).sum(dim=1)
    assert of_hardest.min() == 2
    assert of_hardest.float().mean().item() == pytest.approx(2 + 2 * 2 / 28, abs=0.05)
    assert torch.bincount(rank.flatten(), minlength=30)[:4].float().std() < 60, "each of the four as often"
    again, _ = draw_negatives(terms, torch.ones(500, 30, dtype=torch.bool), 4, 2, key=3)
    other, _ = draw_negatives(terms, torch.ones(500, 30, dtype=torch.bool), 4, 2, key=4)
    assert torch.equal(drawn, again)
    assert not torch.equal(drawn, other)


def test_rows_of_the_same_object_are_no_negatives():
    a, b = pair(10, 5)
    group = torch.arange(10)
    doubled = track_hinge(torch.cat([a, a]), torch.cat([b, b]), 0.7, negatives=100, group=group.repeat(2))
    assert doubled.item() == pytest.approx(track_hinge(a, b, 0.7, negatives=100).item(), rel=1e-12)
    assert track_hinge(a, b, 0.7, group=torch.zeros(10, dtype=torch.int64)).item() == 0, "no negative is left"


def test_lengths_do_not_matter_and_gradients_are_right():
    a, b = pair(5, 4)
    assert track_hinge(3 * a, b / 7, 0.6).item() == pytest.approx(track_hinge(a, b, 0.6).item(), rel=1e-12)
    a, b = a.requires_grad_(), b.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: track_hinge(a, b, 0.6, negatives=8), (a, b))


def test_a_single_pair_has_no_negatives():
    a, b = pair(1, 4)
    assert track_hinge(a, b, 0.5).item() == 0


def test_half_precision_inputs_are_computed_in_float32_also_under_autocast():
    a, b = torch.randn(2, 64, 32, generator=torch.Generator().manual_seed(1)).bfloat16()
    exact = track_hinge(a.double(), b.double(), 0.5, negatives=200).item()
    with torch.autocast("cpu", torch.bfloat16):
        loss = track_hinge(a, b, 0.5, negatives=200)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact, rel=1e-5)
