import json

import pytest
import torch

from sanslabel import encoders
from sanslabel.encoders import LinearCode
from sanslabel.errors import BadInput


@pytest.mark.parametrize("name", ["mlp", "conv", "dcgan", "vit_micro"])
def test_a_code_is_a_linear_layer_on_the_representation(name):
    trunk = encoders.build(name, channels=1, image_size=16, scaling=([0.3], [0.2])).eval()
    encoder, images = LinearCode.on(trunk, 5), torch.rand(3, 1, 16, 16)
    torch.testing.assert_close(encoder(images), encoder.code(trunk(images)))
    assert encoder.width == 5
    assert len(encoder.stages(images)) == len(trunk.stages(images)) + 1
    assert torch.equal(encoder.pooled(encoder.stages(images)[-1]), encoder(images))
    torch.testing.assert_close(encoder.pooled(encoder.stages(images)[-2]), trunk(images))


def test_its_configuration_holds_the_other_encoders():
    encoder = LinearCode.on(encoders.build("mlp", channels=1, image_size=8, hidden=(6, 4)), 3)
    again = encoders.build(**json.loads(json.dumps(encoder.config)))
    assert again.config == encoder.config
    again.load_state_dict(encoder.state_dict())
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(again(images), encoder(images))


def test_it_scales_before_the_other_encoder():
    trunk = encoders.build("mlp", channels=1, image_size=8)
    encoder = encoders.build("coded", channels=1, image_size=8, of=trunk, width=2, scaling=([0.5], [0.25]))
    images = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(encoder(images), encoder.code(trunk((images - 0.5) / 0.25)))


def test_it_is_not_for_the_command_line_and_has_a_width():
    assert not {"coded", "linear_code"} & set(encoders.names())
    with pytest.raises(BadInput, match="is made only by methods, on top of another encoder; name that encoder"):
        encoders.build("linear_code", channels=1, image_size=8)
    with pytest.raises(BadInput, match="1 or more"):
        LinearCode.on(encoders.build("mlp", channels=1, image_size=8), 0)
