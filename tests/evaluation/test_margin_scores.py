"""Margin scores against known values and their loop."""

import pytest
import torch
from torch.nn.functional import cosine_similarity

from sanslabel.evaluation.margin_scores import margin_scores, retrieval_errors


def test_equal_embeddings_have_the_ratio_1():
    z = torch.randn(1, 8, generator=torch.Generator().manual_seed(0)).expand(6, 8)
    torch.testing.assert_close(margin_scores(z, z), torch.ones(6, 6))


def test_orthonormal_pairs_of_two_neighbors():
    expected = 2 * torch.eye(5)
    torch.testing.assert_close(margin_scores(torch.eye(5), torch.eye(5), neighbors=2), expected)


def test_it_is_the_loop():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(7, 4, generator=generator) + 1, torch.randn(5, 4, generator=generator) + 1
    scores = margin_scores(a, b, neighbors=3)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            of_x = sorted(cosine_similarity(x, other, dim=0).item() for other in b)[-3:]
            of_y = sorted(cosine_similarity(other, y, dim=0).item() for other in a)[-3:]
            mean = (sum(of_x) / 3 + sum(of_y) / 3) / 2
            assert scores[i, j].item() == pytest.approx(cosine_similarity(x, y, dim=0).item() / mean, rel=1e-4)


def test_fewer_texts_than_neighbors():
    assert margin_scores(torch.eye(3), torch.eye(3), neighbors=9).diagonal().tolist() == pytest.approx([3.0] * 3)


def test_a_hub_is_found_by_the_cosine_and_not_by_the_margin():
    """The second text is nearer to the first one's translation than to its own, since that one is near to all."""
    a = torch.tensor([[1.0, 0.9], [0.4, 1.0], [0.0, 1.0], [-0.2, 1.0]])
    hub = torch.tensor([0.5, 1.0])
    b = torch.stack([torch.tensor([1.0, 0.4]), torch.tensor([0.2, 1.0]), torch.tensor([-0.4, 1.0]), hub])
    cosine = cosine_similarity(a[:, None], b, dim=2)
    margin = margin_scores(a, b, neighbors=2)
    assert (margin[:, 3] / margin.amax(dim=1)).sum() < (cosine[:, 3] / cosine.amax(dim=1)).sum()


def test_errors_in_both_directions():
    assert retrieval_errors(torch.eye(4)) == (0.0, 0.0)
    scores = torch.eye(4)
    scores[0, 1] = 2.0
    assert retrieval_errors(scores) == (0.25, 0.25)
    scores[2, 1] = 3.0
    assert retrieval_errors(scores) == (0.5, 0.25)
