"""The course's step: a dropout layer on ones is the mask, the clean image is the target."""

import torch
from torch.nn.functional import mse_loss

from sanslabel.methods.dae import DAE
from sanslabel.randomness import uniform

LAYERS = {"name": "mlp", "hidden": 80, "activation": "tanh", "scaling": [[0.5], [0.5]]}


def test_a_denoising_autoencoder_trains_as_in_the_course(side_by_side):
    def authors(net, method):
        adam = torch.optim.Adam(net.parameters(), lr=1e-3)
        hidden, output = net.encoder.layers[0], net.decoder.layers[0]

        def step(batch, clock):
            y = (2 * method.view(batch, 0) - 1).flatten(1)  # what the course's network reads and restores
            kept = uniform(batch.key, y.shape[1], 1) >= 0.5  # a dropout layer's draws
            bad = y * (kept / 0.5)
            restored = torch.tanh(output(torch.tanh(hidden(bad))))
            adam.zero_grad()
            mse_loss(restored, y).backward()
            adam.step()

        return step

    side_by_side(DAE(), DAE.recipe, authors, LAYERS, warmup=0)
