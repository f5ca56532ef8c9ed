"""Autoencoder: a narrow code must be enough to reconstruct the image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.constraints import NonNegative, Positive
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder, LinearCode
from sanslabel.heads.decoders import decoder, reconstruction
from sanslabel.losses import squared_error
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import AdamW
from sanslabel.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Autoencoder(Method):
    """An autoencoder (Hinton and Salakhutdinov 2006). The energy of an image is the mean squared error of its
    reconstruction, with pixels in [-1, 1]. If `sparsity` is above 0, the cost of the code is added.

    The layers are the paper's. Training is end to end with ReLU, the squared error and Adam, as in the course whose
    learning rate and epochs the recipe `paper` has. The paper first trains layer by layer, as Boltzmann machines with
    logistic units, and then descends the cross-entropy of pixels."""

    family = Family.GENERATIVE
    energy = "the squared error of an image's reconstruction from its code"
    prevents_collapse = "the code is too narrow, or too costly, to reconstruct images unlike the data"
    paper = "Reducing the Dimensionality of Data with Neural Networks"
    year = 2006
    unit: ClassVar[str] = ""

    code: Annotated[int | None, Positive] = 30
    """width of the code; None takes the encoder's representation as the code"""
    sparsity: Annotated[float, NonNegative] = 0.0
    """weight of the mean absolute value of the code; a weight above 0 allows wide codes"""
    filters: Annotated[int, Positive] = 64
    """channels of the decoder's last maps, if the encoder is convolutional"""
    view: views.View = views.WHOLE

    recipe = Recipe(
        encoder={"name": "mlp", "hidden": [1000, 500, 250], "scaling": "raw"},
        optimizer=AdamW(lr=1e-3),
        epochs=20,
        final_lr_factor=1.0,
    )
    small = Recipe(encoder="mlp", optimizer=AdamW(lr=1e-3), epochs=40)
    toy = Recipe(
        encoder={"name": "mlp", "hidden": [128, 128]},
        optimizer=AdamW(lr=2e-3),
        epochs=400,
        hyperparameters=dict(code=1),
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        encoder = encoder if self.code is None else LinearCode.on(encoder, self.code)
        return Networks(encoder=encoder, decoder=decoder(encoder, self.filters))

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        y = 2 * self.view(batch, 0) - 1
        code, r = reconstruction(net.encoder, net.decoder, y)
        error, cost = gather(squared_error(r, y)).mean(), gather(code.float().abs().mean(dim=1)).mean()
        yield Objective(
            error + self.sparsity * cost,
            terms={"error": error, "cost": cost},
            embedding=gather(code),
            images={"input": (y[:8] + 1) / 2, "reconstruction": (r[:8] + 1) / 2},
        )

    def encode(self, net: Networks, images: Tensor) -> Tensor:
        return net.encoder(images)

    def decode(self, net: Networks, codes: Tensor) -> Tensor:
        return (net.decoder(codes).tanh() + 1) / 2

    def energy_of(self, net: Networks, images: Tensor) -> Tensor:
        y = 2 * images - 1
        code, r = reconstruction(net.encoder, net.decoder, y)
        return squared_error(r, y) + self.sparsity * code.float().abs().mean(dim=1)

    def reconstruct(self, net: Networks, images: Tensor, key: Tensor) -> Mapping[str, Tensor]:
        return {"reconstruction": self.decode(net, net.encoder(images))}
