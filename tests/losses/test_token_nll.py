from math import log

import pytest
import torch
import torch.nn.functional as F

from sanslabel.losses import token_nll, token_nll_terms

IDS = torch.tensor([[3, 1, 2, 0], [4, 2, 0, 0], [1, 2, 4, 2]])
LENGTHS = torch.tensor([3, 2, 4])
REAL = torch.arange(4) < LENGTHS[:, None]


def logits(dtype=torch.float64):
    return torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0)).to(dtype)


def test_it_is_the_loop():
    scores = logits()
    nll, uniform = token_nll_terms(scores, IDS, REAL)
    for n in range(3):
        log_p = [row.log_softmax(0) for row in scores[n, : LENGTHS[n]]]
        assert nll[n].item() == pytest.approx(-sum(p[i].item() for p, i in zip(log_p, IDS[n], strict=False)))
        assert uniform[n].item() == pytest.approx(-sum(p.mean().item() for p in log_p))
    assert torch.equal(token_nll(scores, IDS, LENGTHS), nll)


def test_uniform_scores_cost_the_log_of_the_vocabulary():
    for size, nats in ((4000, 8.294050), (8000, 8.987197)):
        nll, uniform = token_nll_terms(torch.zeros(1, 2, size).double(), IDS[:1, :2], torch.ones(1, 2).bool())
        assert nll.item() / 2 == pytest.approx(nats, abs=1e-6)
        assert uniform.item() / 2 == pytest.approx(log(size))


@pytest.mark.parametrize(("size", "floor"), [(4000, 1.154201), (8000, 1.223650)])
def test_the_least_smoothed_loss(size, floor):
    """With ε / V on every token, as in torch: the best scores are the logarithms of the smoothed target."""
    smoothed = torch.full((size,), 0.1 / size, dtype=torch.float64)
    smoothed[3] += 0.9
    nll, uniform = token_nll_terms(smoothed.log()[None, None], torch.tensor([[3]]), torch.ones(1, 1).bool())
    assert (0.9 * nll + 0.1 * uniform).item() == pytest.approx(floor, abs=1e-6)
    assert nll.item() == pytest.approx(0.1053, abs=5e-5)
    assert nll.exp().item() == pytest.approx(1.111, abs=5e-4)


def test_the_convention_is_torchs():
    scores = logits()
    nll, uniform = token_nll_terms(scores, IDS, REAL)
    expected = F.cross_entropy(scores[REAL], IDS[REAL], label_smoothing=0.1, reduction="sum")
    assert (0.9 * nll + 0.1 * uniform).sum().item() == pytest.approx(expected.item())


def test_padding_counts_for_nothing():
    scores = logits().requires_grad_()
    other = IDS.clone()
    other[0, 3] = 4
    assert torch.equal(token_nll(scores, other, LENGTHS), token_nll(scores, IDS, LENGTHS))
    token_nll(scores, IDS, LENGTHS).sum().backward()
    assert not scores.grad[0, 3:].any()
    assert not scores.grad[1, 2:].any()
    assert scores.grad[2].any()


def test_half_precision_is_computed_in_float32():
    scores = logits(torch.bfloat16)
    assert torch.equal(token_nll(scores, IDS, LENGTHS), token_nll(scores.float(), IDS, LENGTHS))
    assert torch.autograd.gradcheck(lambda x: token_nll_terms(x, IDS, REAL), logits().requires_grad_())
