"""The encoder of texts: positions by their known values, and what a transformer promises."""

import json

import pytest
import torch
from torch import Tensor

from sanslabel import encoders
from sanslabel.encoders import text
from sanslabel.encoders.text import TextEncoder, real_tokens
from sanslabel.encoders.tokens import sinusoidal_positions
from sanslabel.errors import BadInput
from sanslabel.training.parallel import chunk_, recompute_


@pytest.fixture
def encoder(perturbed) -> TextEncoder:
    torch.manual_seed(0)
    return perturbed(encoders.build("text_micro", vocabulary=20, length=16)).double()


def padded(*texts: list[int], to: int = 8) -> Tensor:
    return torch.tensor([ids + [0] * (to - len(ids)) for ids in texts])


IDS = padded([5, 6, 7, 2], [9, 8, 7, 6, 5, 4, 3, 2])


def test_positions_number_by_number():
    one = [0.841471, 0.540302, 0.099833, 0.995004, 0.01, 0.99995, 0.001, 1.0]
    torch.testing.assert_close(sinusoidal_positions(2, 8)[1], torch.tensor(one), rtol=0, atol=1e-6)
    wide = sinusoidal_positions(40, 512).double()
    torch.testing.assert_close(wide.square().sum(dim=1), torch.full((40,), 256.0).double())
    products = (wide[:-5] * wide[5:]).sum(dim=1)
    torch.testing.assert_close(products, torch.full((35,), 189.596668).double(), rtol=0, atol=1e-3)
    torch.testing.assert_close(sinusoidal_positions(3, 8, start=4), sinusoidal_positions(7, 8)[4:])


def test_shapes_and_configuration(encoder):
    assert encoder(IDS).shape == (2, 128)
    assert [stage.shape for stage in encoder.stages(IDS)] == [(2, 8, 128)] * 3
    again = encoders.build(**json.loads(json.dumps(encoder.config))).double().eval()
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(IDS), encoder(IDS))
    assert encoders.build("text_small", **encoder.reads.arguments).width == 256
    assert sum(p.numel() for p in encoder.parameters()) == 20 * 128 + 3 * (12 * 128**2 + 13 * 128) + 2 * 128


def test_the_representation_is_the_mean_of_real_tokens(encoder):
    tokens = encoder.tokens(IDS)
    assert not tokens[0, 4:].any()
    torch.testing.assert_close(encoder(IDS)[0], tokens[0, :4].mean(dim=0))
    torch.testing.assert_close(encoder(IDS)[1], tokens[1].mean(dim=0))
    torch.testing.assert_close(encoder.stages(IDS)[-1], tokens)
    torch.testing.assert_close(encoder.pooled(encoder.stages(IDS)[-1]), encoder(IDS))


def test_more_padding_changes_nothing(encoder):
    wider = torch.cat([IDS, torch.zeros(2, 8, dtype=torch.int64)], dim=1)
    torch.testing.assert_close(encoder(wider), encoder(IDS), rtol=0, atol=1e-6)
    torch.testing.assert_close(encoder(IDS[:1, :4]), encoder(IDS[:1]), rtol=0, atol=1e-6)


def test_without_positions_a_text_is_a_set(encoder, monkeypatch):
    order = [3, 1, 0, 2]
    other = IDS[:1, :4][:, order]
    assert (encoder.tokens(other) - encoder.tokens(IDS[:1, :4])[:, order]).abs().max() > 1e-2
    monkeypatch.setattr(text, "sinusoidal_positions", lambda length, width, *_: torch.zeros(length, width))
    torch.testing.assert_close(encoder.tokens(other), encoder.tokens(IDS[:1, :4])[:, order])


def test_masked_tokens_keep_their_place_and_nothing_of_what_they_are(encoder):
    masked = torch.zeros(2, 8, dtype=torch.bool)
    masked[:, 1] = True
    fill = torch.linspace(-0.1, 0.1, 128, dtype=torch.float64)
    other = IDS.clone()
    other[:, 1] = 13
    assert torch.equal(encoder.tokens(IDS, masked, fill), encoder.tokens(other, masked, fill))
    assert (encoder.tokens(IDS, masked, fill) - encoder.tokens(IDS)).abs().max() > 1e-2


def test_scores_are_products_with_the_vectors_of_tokens(encoder):
    hidden = torch.randn(3, 128, dtype=torch.float64)
    torch.testing.assert_close(encoder.scores(hidden), hidden @ encoder.embedding.T)


def test_an_empty_text_is_finite(encoder):
    nothing = torch.zeros(2, 8, dtype=torch.int64)
    assert not real_tokens(nothing).any()
    assert not encoder(nothing).any()
    encoder(nothing).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)


def gradients(change=lambda net: None) -> dict[str, Tensor]:
    torch.manual_seed(0)
    net = torch.nn.ModuleDict({"encoder": encoders.build("text_micro", vocabulary=20, length=16)}).double()
    change(net)
    (net["encoder"](IDS.repeat(3, 1)) * torch.linspace(-1, 1, 128)).square().sum().backward()
    return {name: p.grad for name, p in net.named_parameters()}


@pytest.mark.parametrize("change", [lambda net: chunk_(net, 4), recompute_], ids=["chunk", "recompute"])
def test_less_memory_gives_the_same_gradient(change):
    expected = gradients()
    for name, gradient in gradients(change).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-12)


def test_what_cannot_be_built_is_refused():
    with pytest.raises(BadInput, match="needs vocabulary"):
        encoders.build("text_micro", length=4)
    with pytest.raises(BadInput, match="vocabulary is 0"):
        encoders.build("text_micro", vocabulary=0, length=4)
    with pytest.raises(BadInput, match="reads texts, not images"):
        encoders.build("text_micro", scaling=None, channels=1, image_size=8)
