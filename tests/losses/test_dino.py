from math import log

import pytest
import torch

from sanslabel.losses import chunking, dino


def loop(student, target, temperature):
    """The paper's formula, term by term, and how many terms there are."""
    views, n, k = student.shape
    total, terms = [0.0] * n, 0
    for t in range(len(target)):
        for v in range(views):
            if v == t:
                continue
            terms += 1
            for i in range(n):
                exps = [float(torch.exp(student[v, i, j] / temperature)) for j in range(k)]
                total[i] -= sum(float(target[t, i, j]) * log(exps[j] / sum(exps)) for j in range(k))
    return torch.tensor(total, dtype=student.dtype) / terms, terms


def drawn(views: int, n: int, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    student = torch.randn(views, n, k, dtype=torch.float64)
    return student, torch.randn(2, n, k, dtype=torch.float64).softmax(dim=-1)


def entropy(target: torch.Tensor) -> torch.Tensor:
    return torch.special.entr(target).sum(dim=-1).mean(dim=0)  # (N,)


def test_a_uniform_student_pays_the_logarithm_of_the_outputs():
    target = torch.randn(2, 3, 65536, dtype=torch.float64).softmax(dim=-1)
    loss = dino(torch.full((4, 3, 65536), 0.7, dtype=torch.float64), target, 0.1)
    torch.testing.assert_close(loss, torch.full((3,), 11.090355, dtype=torch.float64), atol=1e-6, rtol=0)


def test_it_is_never_below_the_entropy_of_the_targets_and_reaches_it_where_all_agree():
    student, target = drawn(5, 6, 8)
    assert (dino(student, target, 0.5) > entropy(target)).all()
    agreed = target[:1].expand(2, -1, -1)
    student = 0.1 * agreed[:1].log().expand(5, -1, -1) + 3.0
    torch.testing.assert_close(dino(student, agreed, 0.1), entropy(agreed))


@pytest.mark.parametrize(("views", "terms"), [(2, 2), (5, 8), (10, 18)])
def test_it_is_the_loop_of_the_paper_over_two_terms_for_every_view_but_one(views, terms):
    student, target = drawn(views, 3, 4)
    expected, counted = loop(student, target, 0.3)
    assert counted == terms
    torch.testing.assert_close(dino(student, target, 0.3), expected)


def test_no_view_is_compared_with_itself():
    student, target = drawn(2, 4, 5)
    only = dino(student, torch.stack([target[0], torch.zeros_like(target[1])]), 0.2)
    other = torch.stack([torch.randn_like(student[0]), student[1]])
    torch.testing.assert_close(dino(other, torch.stack([target[0], torch.zeros_like(target[1])]), 0.2), only)


def test_far_logits_are_finite():
    student, target = drawn(3, 4, 5)
    assert dino(1e4 * student.float(), target.float(), 0.1).isfinite().all()


def test_gradient():
    student, target = drawn(3, 2, 4)
    assert torch.autograd.gradcheck(lambda s: dino(s, target, 0.5), (student.requires_grad_(),))


def test_half_precision_inputs_are_computed_in_float32_also_under_autocast():
    student, target = (x.bfloat16() for x in drawn(4, 16, 32))
    with torch.autocast("cpu", torch.bfloat16):
        loss = dino(student, target, 0.1)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), dino(student.double(), target.double(), 0.1), rtol=1e-5, atol=1e-5)


@pytest.fixture
def in_parts(monkeypatch):
    """Logits as if they were too many to be worked on at once: two images at a time, of these."""
    monkeypatch.setitem(chunking.LARGE, "cpu", 0)
    monkeypatch.setitem(chunking.CHUNK, "cpu", 2 * 5 * 8)


def test_in_parts_it_is_the_loop_of_the_paper(in_parts):
    student, target = drawn(5, 7, 8)
    torch.testing.assert_close(dino(student, target, 0.3), loop(student, target, 0.3)[0])
    assert torch.autograd.gradcheck(lambda s: dino(s, target, 0.5), (student.requires_grad_(),))
    alone = dino(student[:2], torch.stack([target[0], torch.zeros_like(target[1])]), 0.2)
    assert alone.isfinite().all()
    torch.testing.assert_close(alone, -(target[0] * (student[1] / 0.2).log_softmax(dim=-1)).sum(dim=-1) / 2)


def test_in_parts_logits_may_lie_in_another_order(in_parts):
    student, target = drawn(5, 7, 8)
    apart = student.transpose(0, 1).contiguous().requires_grad_()
    torch.testing.assert_close(dino(apart.transpose(0, 1), target, 0.3), dino(student, target, 0.3))
    assert torch.autograd.gradcheck(lambda s: dino(s.transpose(0, 1), target, 0.5), (apart,))


def test_in_parts_half_precision_is_computed_in_float32_also_under_autocast(in_parts):
    student, target = (x.bfloat16() for x in drawn(5, 7, 8))
    student.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = dino(student, target, 0.1)
        (gradient,) = torch.autograd.grad(loss.sum(), student)
    exact = student.detach().double().requires_grad_()
    expected = dino(exact, target.double(), 0.1)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    (wanted,) = torch.autograd.grad(expected.sum(), exact)
    torch.testing.assert_close(gradient.double(), wanted, rtol=1e-2, atol=1e-5)
