"""Places, mask tokens and the narrow transformer that predicts tokens."""

import pytest
import torch

from sanslabel import encoders
from sanslabel.encoders.patches import assembled, painted, patches
from sanslabel.encoders.tokens import MaskToken, at, sincos_positions
from sanslabel.encoders.vit import VisionTransformer, transformer
from sanslabel.errors import BadInput
from sanslabel.heads.token_predictor import TokenPredictor

GRID = (3, 4)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_at_by_loops():
    tokens, places = noise(3, 7, 5), torch.tensor([[0, 6], [3, 3], [5, 1]])
    for n, row in enumerate(at(tokens, places)):
        assert torch.equal(row, torch.stack([tokens[n, place] for place in places[n]]))


def test_positions_number_by_number():
    positions = sincos_positions((2, 3), 16)
    assert positions.shape == (6, 16)
    for place in range(6):
        row, column = divmod(place, 3)
        for k in range(4):
            frequency = torch.tensor(10_000.0 ** -(k / 4))
            expected = [(column * frequency).sin(), (column * frequency).cos()]
            expected += [(row * frequency).sin(), (row * frequency).cos()]
            assert positions[place, k::4].tolist() == pytest.approx([float(x) for x in expected], abs=1e-6)


def test_every_place_has_a_position_of_its_own_and_neighbors_are_alike():
    positions = sincos_positions((14, 14), 64)
    distance = torch.cdist(positions, positions)
    assert distance[~torch.eye(196, dtype=torch.bool)].min() > 0.5
    assert distance[0, 1] < distance[0, 2] < distance[0, 3]
    assert distance[0, 14] == pytest.approx(float(distance[0, 1]), abs=1e-5)


def test_fixed_positions_are_not_trained():
    torch.manual_seed(0)
    encoder = encoders.build("vit_micro", channels=1, image_size=28)
    encoder.fix_positions_()
    assert torch.equal(encoder.pos_embed[0, 1:], sincos_positions((7, 7), 128))
    assert not encoder.pos_embed[0, 0].any()
    assert not encoder.pos_embed.requires_grad
    assert encoder.config["positions"] == "sincos"
    torch.manual_seed(0)
    again = encoders.build(**encoder.config)  # the same start, as the untrained baseline needs it
    assert not again.pos_embed.requires_grad
    for (name, ours), theirs in zip(again.state_dict().items(), encoder.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


def test_filled_patches_keep_their_place_and_nothing_of_what_they_show():
    encoder, mask = encoders.build("vit_micro", channels=1, image_size=8), MaskToken(128)
    masked = torch.tensor([[0, 5, 7], [15, 2, 8]])
    images = noise(2, 1, 8, 8)
    tokens = encoder.embed(images, masked=masked, fill=mask())
    plain = encoder.embed(images)
    for n in range(2):
        for place in range(16):
            expected = plain[n, 1 + place]
            if place in masked[n]:
                expected = mask.weight + encoder.pos_embed[0, 1 + place]
            torch.testing.assert_close(tokens[n, 1 + place], expected)
    rest = torch.ones(2, 16).scatter(1, masked, 0.0).view(2, 1, 4, 4)
    rest = rest.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    outputs = encoder.tokens(images, masked=masked, fill=mask())
    torch.testing.assert_close(encoder.tokens(images * rest, masked=masked, fill=mask()), outputs)
    assert (encoder.tokens(images + (1 - rest)) - encoder.tokens(images)).abs().max() > 1e-3
    outputs.square().sum().backward()
    assert mask.weight.grad.abs().sum() > 0


def test_convnets_are_refused():
    encoder = encoders.build("vit_micro", channels=1, image_size=8)
    assert transformer(encoder, "MAE") is encoder
    assert isinstance(encoder, VisionTransformer)
    with pytest.raises(BadInput, match=r"encoder='conv': MAE hides patches, and a convnet .* choose one of vit_micro"):
        transformer(encoders.build("conv", channels=1, image_size=8), "MAE")


@pytest.fixture
def predictor():
    torch.manual_seed(0)
    built = TokenPredictor(12, 64, 2, outputs=5)
    with torch.no_grad():  # it starts so small that tokens would hardly read from each other
        for parameter in built.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return built.double()


def test_predictions_follow_the_order_in_which_they_are_asked_for(predictor):
    tokens, places, wanted = (
        noise(2, 3, 12).double(),
        torch.tensor([[0, 7, 3], [2, 4, 11]]),
        torch.tensor([[1, 5, 9]]),
    )
    wanted = wanted.expand(2, -1)
    predictions = predictor(tokens, places, wanted, GRID)
    assert predictions.shape == (2, 3, 5)
    order = [2, 0, 1]
    torch.testing.assert_close(predictor(tokens, places, wanted[:, order], GRID), predictions[:, order])
    torch.testing.assert_close(predictor(tokens[:, order], places[:, order], wanted, GRID), predictions)


def test_predictions_depend_on_places_and_tokens(predictor):
    tokens, places, wanted = noise(1, 3, 12).double(), torch.tensor([[0, 7, 3]]), torch.tensor([[1, 5]])
    predictions = predictor(tokens, places, wanted, GRID)
    for other in ((tokens + 1, places, wanted), (tokens, places + 1, wanted), (tokens, places, wanted + 1)):
        assert (predictor(*other, GRID) - predictions).abs().max() > 1e-2
    assert (predictions[0, 0] - predictions[0, 1]).abs().max() > 1e-2


@pytest.mark.parametrize("width", [0, 16, 100])
def test_widths_that_heads_do_not_fit_are_refused(width):
    with pytest.raises(BadInput, match=f"width is {width}; give a multiple of 32"):
        TokenPredictor(12, width, 1, outputs=3)


@pytest.mark.parametrize("channels", [1, 3])
def test_patches_make_the_image_again(channels):
    images = noise(2, channels, 6, 8)
    cut = patches(images, 2, 2)
    assert torch.equal(assembled(cut, GRID), images)
    for place in range(12):
        row, column = divmod(place, 4)
        assert torch.equal(cut[:, place], images[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2])


def test_painted_patches_are_in_their_places():
    images, places, pixels = noise(2, 3, 6, 8), torch.tensor([[0, 11], [5, 2]]), noise(2, 2, 12)
    result = patches(painted(images, places, pixels, 2), 2, 2).flatten(2)
    plain = patches(images, 2, 2).flatten(2)
    for n in range(2):
        for place in range(12):
            (index,) = (places[n] == place).nonzero(as_tuple=True)
            assert torch.equal(result[n, place], pixels[n, index[0]] if len(index) else plain[n, place])
