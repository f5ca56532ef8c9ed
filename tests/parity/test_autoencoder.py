"""The authors' layers, trained end to end: a linear code must be enough for the squared error, by Adam alone."""

import torch
from torch.nn.functional import mse_loss

from sanslabel.methods.autoencoder import Autoencoder

LAYERS = {"name": "mlp", "hidden": [32, 16], "scaling": None}


def test_an_autoencoder_trains_as_in_the_course(side_by_side):
    method = Autoencoder(code=5)

    def authors(net, method):
        adam = torch.optim.Adam(net.parameters(), lr=1e-3)

        def step(batch, clock):
            y = 2 * method.view(batch, 0) - 1
            code = net.encoder((y + 1) / 2)
            adam.zero_grad()
            mse_loss(torch.tanh(net.decoder(code)), y).backward()
            adam.step()

        return step

    side_by_side(method, Autoencoder.recipe, authors, LAYERS, warmup=0, deviation="squared error, no layer by layer")
