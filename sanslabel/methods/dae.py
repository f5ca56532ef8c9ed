"""DAE: an image must be reconstructed from a corrupted copy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.constraints import Positive
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder, LinearCode
from sanslabel.heads.decoders import decoder, reconstruction
from sanslabel.losses import squared_error
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import AdamW
from sanslabel.randomness import fold, uniform
from sanslabel.recipe import Recipe
from sanslabel.views import corruption

NOISE, START = 1, 2
"""the random streams of the corruptions, and of the first image of a chain"""


@dataclass(frozen=True, kw_only=True)
class DAE(Method):
    """A denoising autoencoder (Vincent et al. 2010). The energy of an image is the mean squared error of its
    reconstruction, with pixels in [-1, 1]. It grows with the distance from the data, since the network learned to bring
    corrupted images back to the data.

    For small normal noise of variance σ², reconstruction minus image is σ² times the gradient of the data's log density
    (Alain and Bengio 2014). The recipe `paper` is that of a course: 784 - 500 - 784 with tanh on pixels in [-1, 1], and
    a dropout layer as the corruption. The recipe `small` uses ReLU, and standardizes the encoder's input."""

    family = Family.GENERATIVE
    energy = "the squared error of an image's reconstruction"
    prevents_collapse = "corrupted images must be restored, so the network cannot just return its input"
    paper = "Stacked Denoising Autoencoders: Learning Useful Representations with a Local Denoising Criterion"
    year = 2010
    unit: ClassVar[str] = ""

    corruption: views.Corruption = "dropout"
    """mask (black pixels), gaussian, or dropout (the remaining values grow); see `views.corrupted`"""
    amount: float = 0.5
    """probability that a pixel is removed, or the standard deviation of the noise for images in [-1, 1]"""
    code: Annotated[int | None, Positive] = None
    """width of the code; None takes the encoder's representation, which may be wider than the image"""
    filters: Annotated[int, Positive] = 64
    """channels of the decoder's last maps, if the encoder is convolutional"""
    chain: Annotated[int, Positive] = 50
    """steps of corruption and reconstruction that turn uniform noise into a sample; Bengio et al. 2013 also draw from a
    density around each reconstruction"""
    view: views.View = views.WHOLE

    recipe = Recipe(
        encoder={"name": "mlp", "activation": "tanh", "scaling": "signed"},
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
        encoder = encoder if self.code is None else LinearCode.on(encoder, self.code)
        return Networks(encoder=encoder, decoder=decoder(encoder, self.filters))

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        y = 2 * self.view(batch, 0) - 1
        noisy = self.corrupted(y, batch.key)
        code, r = reconstruction(net.encoder, net.decoder, noisy)
        pictures = {"input": y, "corrupted": noisy, "reconstruction": r}
        yield Objective(
            gather(squared_error(r, y)).mean(),
            embedding=gather(code),
            images={name: unit_range(picture[:8]) for name, picture in pictures.items()},
        )

    def encode(self, net: Networks, images: Tensor) -> Tensor:
        return net.encoder(images)

    def decode(self, net: Networks, codes: Tensor) -> Tensor:
        return unit_range(net.decoder(codes).tanh())

    def sample(self, net: Networks, key: Tensor) -> Tensor:
        channels, side = net.encoder.config["channels"], net.encoder.config["image_size"]
        y = 2 * uniform(key, channels * side**2, START).view(-1, channels, side, side) - 1
        for step in range(self.chain):
            _, y = reconstruction(net.encoder, net.decoder, self.corrupted(y, fold(key, step)))
        return unit_range(y)

    def energy_of(self, net: Networks, images: Tensor) -> Tensor:
        y = 2 * images - 1
        return squared_error(reconstruction(net.encoder, net.decoder, y)[1], y)

    def reconstruct(self, net: Networks, images: Tensor, key: Tensor) -> Mapping[str, Tensor]:
        noisy = self.corrupted(2 * images - 1, key)
        _, r = reconstruction(net.encoder, net.decoder, noisy)
        return {"corrupted": unit_range(noisy), "reconstruction": unit_range(r)}

    def corrupted(self, y: Tensor, key: Tensor) -> Tensor:
        """Returns images in [-1, 1] with corruptions that are drawn from their keys."""
        return views.corrupted(y, key, self.corruption, self.amount, NOISE)


def unit_range(y: Tensor) -> Tensor:
    """Returns images in [-1, 1], rescaled and clamped to [0, 1]."""
    return torch.clamp((y + 1) / 2, 0, 1)
