import pytest
import torch

from sanslabel import encoders
from sanslabel.errors import BadInput


def test_it_is_linear_layers_with_an_activation_after_each():
    encoder = encoders.build("mlp", channels=2, image_size=3, hidden=(7, 5), activation="tanh")
    x = torch.rand(4, 2, 3, 3)
    first = torch.tanh(x.flatten(1) @ encoder.layers[0].weight.T + encoder.layers[0].bias)
    second = torch.tanh(first @ encoder.layers[1].weight.T + encoder.layers[1].bias)
    stages = encoder.stages(x)
    torch.testing.assert_close(stages[0], first)
    torch.testing.assert_close(stages[1], second)
    torch.testing.assert_close(encoder(x), second)
    assert encoder.width == 5


def test_points_in_a_plane_are_images_of_one_pixel():
    assert encoders.build("mlp", channels=2, image_size=1, hidden=4)(torch.rand(6, 2, 1, 1)).shape == (6, 4)
    with pytest.raises(BadInput, match="conv needs 8 pixels"):
        encoders.build("conv", channels=2, image_size=1)


def test_what_it_refuses():
    for hidden in ((), (0,), (5, -1), "wide"):
        with pytest.raises(BadInput, match="hidden"):
            encoders.build("mlp", image_size=8, hidden=hidden)
    with pytest.raises(BadInput, match="relu, tanh"):
        encoders.build("mlp", image_size=8, activation="gelu")
    with pytest.raises(BadInput, match="8x8, not of 9x9"):
        encoders.build("mlp", image_size=8)(torch.rand(1, 3, 9, 9))
