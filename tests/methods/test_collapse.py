"""A network whose last layer says one thing of all images has no gradient under any of these methods."""

import pytest
import torch
from torch import nn

from sanslabel import encoders, methods
from sanslabel.batch import Clock, Facts

METHODS = {
    "simclr": "projector",
    "vicreg": "projector",
    "barlow_twins": "projector",
    "lejepa": "projector",
    "moco": "projector",
    "npid": "projector",
    "byol": "predictor",
    "simsiam": "predictor",
    "swav": "projector",
    "dino": "projector",
    "tracking": "projector",
}
"""and the head whose last linear layer is what embeddings come from"""


@pytest.mark.parametrize("name", METHODS)
def test_a_last_layer_of_zeros_gives_the_encoder_no_gradient(name, first_batches):
    (_, batch), *_ = first_batches()
    chosen = methods.method_class(name)
    method = chosen.under(chosen.small).sized(8)
    torch.manual_seed(0)
    encoder = encoders.build("conv", channels=1, image_size=8)
    net = method.networks(encoder, Facts.of_images(64, 1, 8, 8, 0)).double().train()
    *_, last = (m for m in net.get_submodule(METHODS[name]).modules() if isinstance(m, nn.Linear))
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    batch = batch.with_pixels(batch.images().pixels.double() / 255)
    objective = next(method.step(net, batch, Clock(0, 1, 2, 10, 2)))  # of the second epoch, when memories are filled
    objective.loss.backward()
    gradients = [p.grad.abs().max() for p in encoder.parameters() if p.grad is not None]
    assert all(g == 0 for g in gradients)
