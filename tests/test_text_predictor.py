"""Both kinds of predictors: the future changes no bit, piece by piece is at once, and neither has more weights."""

import pytest
import torch
from torch import Tensor

from sanslabel.heads import TextPredictor

KINDS = ["transformer", "recurrent"]


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.fixture(params=KINDS)
def predictor(request) -> TextPredictor:
    torch.manual_seed(0)
    return TextPredictor(16, 4, 2, request.param)


SOURCE, READABLE = noise(3, 5, 16), torch.tensor([[5], [2], [4]]) > torch.arange(5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_comes_later_changes_no_bit(predictor, dtype):
    predictor, target = predictor.to(dtype), noise(3, 7, 16).to(dtype)
    first = predictor(target, SOURCE.to(dtype), READABLE)
    for j in range(6):
        other = target.clone()
        other[:, j + 1 :] = 20 * noise(3, 6 - j, 16).to(dtype)
        again = predictor(other, SOURCE.to(dtype), READABLE)
        assert torch.equal(again[:, : j + 1], first[:, : j + 1])
        assert not torch.equal(again[:, j + 1 :], first[:, j + 1 :])


def test_padding_of_the_source_changes_nothing(predictor):
    target = noise(3, 7, 16)
    first = predictor(target, SOURCE, READABLE)
    other = torch.where(READABLE[:, :, None], SOURCE, 9.0)
    torch.testing.assert_close(predictor(target, other, READABLE), first)
    assert (predictor(target, SOURCE.flip(0), READABLE) - first).abs().max() > 1e-3


def test_one_token_at_a_time_is_all_at_once(predictor):
    target = noise(3, 7, 16)
    found, progress = [], predictor.start(SOURCE, READABLE)
    for token in target.split(1, dim=1):
        h, progress = predictor.advance(token, progress)
        found.append(h)
    torch.testing.assert_close(torch.cat(found, dim=1), predictor(target, SOURCE, READABLE))


def test_progress_of_some_samples_in_another_order(predictor):
    target, order = noise(3, 7, 16), torch.tensor([2, 0, 0])
    _, progress = predictor.advance(target[:, :4], predictor.start(SOURCE, READABLE))
    whole, _ = predictor.advance(target[:, 4:], progress)
    some, _ = predictor.advance(target[order, 4:], progress.select(order))
    torch.testing.assert_close(some, whole[order])


def test_weights_of_the_source(predictor):
    weights = predictor.source_weights(noise(3, 7, 16), SOURCE, READABLE)
    assert weights.shape == (3, 2, 4, 7, 5)
    torch.testing.assert_close(weights.sum(dim=4), torch.ones(3, 2, 4, 7))
    assert not weights[1, ..., 2:].any()


@pytest.mark.parametrize("width", [64, 128, 256, 512])
def test_both_kinds_have_as_many_weights(width):
    with torch.device("meta"):
        sizes = [sum(p.numel() for p in TextPredictor(width, 4, 3, kind).parameters()) for kind in KINDS]
    assert sizes[0] == 3 * (16 * width**2 + 19 * width) + 2 * width
    assert abs(sizes[1] - sizes[0]) < 0.02 * sizes[0]


def test_mixed_precision(predictor):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = predictor(noise(3, 7, 16), SOURCE, READABLE)
    h.square().sum().backward()
    torch.testing.assert_close(h.float(), predictor(noise(3, 7, 16), SOURCE, READABLE), rtol=0, atol=0.1)
    assert all(torch.isfinite(p.grad).all() for p in predictor.parameters())
