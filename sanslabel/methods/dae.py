"""DAE: an image must be painted again from what corruption has left of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder, LinearCode
from sanslabel.heads.decoders import decoder, reconstruction
from sanslabel.losses import squared_error
from sanslabel.methods.method import Method, Networks, Objective
from sanslabel.optimizers import AdamW
from sanslabel.randomness import fold, uniform
from sanslabel.recipe import Recipe
from sanslabel.views import corrupted, corruption

NOISE, START = 1, 2
"""streams that corruption, and the first image of a chain, are drawn from"""


@dataclass(frozen=True, kw_only=True)
class DAE(Method):
    """A denoising autoencoder (Vincent et al. 2010). Energy of an image: the mean squared error of its reconstruction,
    in [-1, 1], which corrupted images were trained to lose: it grows with the distance from the data. Where noise is
    small and normal, the way from an image to its reconstruction is σ² times the slope of the data's log density
    (Alain and Bengio 2014). The paper's recipe is a course's: 784 - 500 - 784 with tanh and the mask of a dropout
    layer; the small one has ReLU."""

    family = "generative"
    energy = "the squared error of an image's reconstruction"
    prevents_collapse = (
        "corrupted images must come back to the data, so that no network may return all that it is given"
    )
    paper = "Stacked Denoising Autoencoders: Learning Useful Representations with a Local Denoising Criterion"
    year = 2010
    positive = ("code", "filters", "chain")

    corruption: views.Corruption = "dropout"
    """mask (black pixels), gaussian, or dropout (the surviving numbers grow); see `views.corrupted`"""
    amount: float = 0.5
    """the probability that a pixel goes, or the noise's deviation for images in [-1, 1]"""
    code: int | None = None
    """numbers in the code; None takes the encoder's representation for it, which may be wider than the image"""
    filters: int = 64
    """channels of the decoder's last maps, where the encoder is convolutional"""
    chain: int = 50
    """steps of corruption and reconstruction that make a sample of uniform noise, as Bengio et al. 2013 do, who also
    draw from a density around each reconstruction"""
    view: views.View = views.WHOLE

    recipe = Recipe(
        encoder={"name": "mlp", "activation": "tanh"},
        optimizer=AdamW(lr=1e-3),
        batch=256,
        epochs=20,
        final_lr_factor=1.0,
    )
    small = Recipe(encoder="mlp", optimizer=AdamW(lr=1e-3), epochs=40)
    toy = Recipe(
        encoder={"name": "mlp", "hidden": [128, 128]},
        optimizer=AdamW(lr=2e-3),
        epochs=400,
        hyperparameters=dict(corruption="gaussian", amount=0.1),
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        corruption.check_corruption(self.corruption, self.amount)
        coded = encoder if self.code is None else LinearCode.on(encoder, self.code)
        return Networks(encoder=coded, decoder=decoder(coded, self.filters))

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        y = 2 * self.view(batch, 0) - 1
        noisy = self._corrupted(y, batch.key)
        code, r = reconstruction(net.encoder, net.decoder, noisy)
        images = {"input": y, "corrupted": noisy, "reconstruction": r}
        yield Objective(
            gather(squared_error(r, y)).mean(),
            embedding=gather(code),
            images={name: _shown(part[:8]) for name, part in images.items()},
        )

    def coded(self, net: Networks, images: Tensor) -> Tensor:
        return net.encoder(images)

    def decoded(self, net: Networks, codes: Tensor) -> Tensor:
        return _shown(net.decoder(codes).tanh())

    def sampled(self, net: Networks, key: Tensor) -> Tensor:
        channels, side = net.encoder.config["channels"], net.encoder.config["image_size"]
        y = 2 * uniform(key, channels * side**2, START).view(-1, channels, side, side) - 1
        for step in range(self.chain):
            _, y = reconstruction(net.encoder, net.decoder, self._corrupted(y, fold(key, step)))
        return _shown(y)

    def energies(self, net: Networks, images: Tensor) -> Tensor:
        y = 2 * images - 1
        return squared_error(reconstruction(net.encoder, net.decoder, y)[1], y)

    def reconstructed(self, net: Networks, images: Tensor, key: Tensor) -> Mapping[str, Tensor]:
        noisy = self._corrupted(2 * images - 1, key)
        return {
            "corrupted": _shown(noisy),
            "reconstruction": _shown(reconstruction(net.encoder, net.decoder, noisy)[1]),
        }

    def _corrupted(self, y: Tensor, key: Tensor) -> Tensor:
        return corrupted(y, key, self.corruption, self.amount, NOISE)


def _shown(y: Tensor) -> Tensor:
    """From [-1, 1] to [0, 1]."""
    return torch.clamp((y + 1) / 2, 0, 1)
