from math import exp, log

import pytest
import torch
from torch.nn.functional import cosine_similarity

from sanslabel.losses import info_nce, instance_discrimination


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def loop(query, candidates, own, temperature):
    total = 0.0
    for q, j in zip(query, own.tolist(), strict=True):
        scores = torch.stack([cosine_similarity(q, c, dim=0) / temperature for c in candidates])
        total = total - scores[j] + scores.exp().sum().log()
    return total / len(query)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_no_similarity_gives_the_log_of_all_candidates(temperature):
    own = torch.zeros(2, dtype=torch.int64)
    query, candidates = torch.eye(3)[:2], torch.eye(3)[2:].expand(50_000, 3)
    assert instance_discrimination(query, candidates, own, temperature).item() == pytest.approx(10.819778, abs=1e-4)
    assert log(50_000) == pytest.approx(10.819778, abs=1e-6)


def test_equal_pairs_among_orthogonal_ones():
    axes = torch.eye(6, dtype=torch.float64)
    loss = instance_discrimination(axes, axes, torch.arange(6), 0.5)
    assert loss.item() == pytest.approx(log(1 + 5 * exp(-2)), rel=1e-12)


def test_it_is_the_loop_of_the_paper():
    q, c, own = random(4, 5), random(9, 5), torch.tensor([3, 0, 8, 3])
    assert instance_discrimination(q, c, own, 0.3).item() == pytest.approx(loop(q, c, own, 0.3).item(), rel=1e-12)


def test_it_is_info_nce_with_all_others_as_negatives():
    q, c = random(6, 5), random(6, 5)
    others = [info_nce(q[i, None], c[i, None], torch.cat([c[:i], c[i + 1 :]]), 0.2) for i in range(6)]
    loss = instance_discrimination(q, c, torch.arange(6), 0.2)
    assert loss.item() == pytest.approx(torch.stack(others).mean().item(), rel=1e-12)


def test_one_candidate_costs_nothing():
    assert instance_discrimination(random(1, 4), random(1, 4), torch.tensor([0]), 1.0).item() == 0


def test_gradient():
    q, c, own = random(4, 3).requires_grad_(), random(6, 3).requires_grad_(), torch.tensor([3, 0, 5, 3])
    assert torch.autograd.gradcheck(lambda q, c: instance_discrimination(q, c, own, 0.3), (q, c))


def test_half_precision_inputs_are_computed_in_float32_also_under_autocast():
    q, c = torch.randn(2, 64, 16).bfloat16()
    own = torch.arange(64)
    exact = instance_discrimination(q.double(), c.double(), own, 0.05).item()
    with torch.autocast("cpu", torch.bfloat16):
        loss = instance_discrimination(q, c, own, 0.05)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact, rel=1e-5)
