"""The example's step: binary cross-entropy and divergence as sums over pixels, dimensions and the batch."""

import torch
from torch.nn.functional import binary_cross_entropy

from sanslabel.methods.vae import VAE
from sanslabel.randomness import normal

LAYERS = {"name": "mlp", "hidden": 40, "scaling": None}


def test_a_variational_autoencoder_trains_as_in_the_example(side_by_side):
    def authors(net, method):
        adam = torch.optim.Adam(net.parameters(), lr=1e-3)

        def step(batch, clock):
            x = method.view(batch, 0)
            hidden = net.encoder.trunk(x)
            mu, logvar = net.encoder.code(hidden), net.log_var(hidden)
            z = mu + torch.exp(0.5 * logvar) * normal(batch.key, 20, 1)
            likelihood = binary_cross_entropy(torch.sigmoid(net.decoder(z)), x, reduction="sum")
            divergence = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
            adam.zero_grad()
            ((likelihood + divergence) / len(x)).backward()
            adam.step()

        return step

    side_by_side(VAE(), VAE.recipe, authors, LAYERS, warmup=0, deviation="mean over the batch, not the sum")
