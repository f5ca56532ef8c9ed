"""MAE: a transformer reads a quarter of an image's patches, and a small decoder predicts the pixels of the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.constraints import Count, Fraction, Positive
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.encoders.patches import painted, patches
from sanslabel.encoders.tokens import at
from sanslabel.encoders.vit import transformer
from sanslabel.heads.token_predictor import TokenPredictor
from sanslabel.losses import patch_reconstruction
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import AdamW
from sanslabel.recipe import Recipe

CROPS = replace(views.RECONSTRUCTION, crop=(0.2, 1.0))


class Prediction(NamedTuple):
    """The decoder's prediction of masked patches, with its inputs and targets."""

    tokens: Tensor
    """(N, K, D), the encoder's tokens of the visible patches"""
    predicted: Tensor
    """(N, M, P), the pixels of the masked patches, as the decoder predicts them"""
    pixels: Tensor
    """(N, M, P), the true pixels of the masked patches"""
    visible: Tensor
    """(N, K) int64, the places of the visible patches"""
    masked: Tensor
    """(N, M) int64, the places of the masked patches"""


@dataclass(frozen=True, kw_only=True)
class MAE(Method):
    """Masked autoencoders (He et al. 2022). The energy of an image is the squared error of its masked patches' pixels,
    predicted from the visible patches.

    Defaults are the authors' code for ViT-B/16. The class token stays out of the decoder, since the representation is
    the mean of the patches' tokens. Targets are made from pixels in [0, 1], not from standardized ones, so that errors
    are in pixels. This matters only for patches whose deviation is below one of 255 levels. Crops are resized
    bilinearly, not bicubically, like all views here."""

    family = Family.GENERATIVE
    energy = "the squared error of the masked patches, given the visible ones"
    prevents_collapse = "the targets are pixels, which training cannot change"
    paper = "Masked Autoencoders Are Scalable Vision Learners"
    year = 2022
    needs = "a transformer"

    ratio: Annotated[float, Fraction] = 0.75
    """fraction of the patches that are masked"""
    decoder_width: Annotated[int, Positive] = 512
    decoder_depth: Annotated[int, Count] = 8
    normalized: bool = True
    """targets are the pixels of each patch, normalized to mean 0 and variance 1"""
    view: views.View = CROPS

    recipe = Recipe(
        encoder={"name": "vit_base", "start": "mae"},
        decode_factor=2.6,
        optimizer=AdamW(lr=1.5e-4, betas=(0.9, 0.95), weight_decay=0.05),
        scaling="linear",
        batch=4096,
        epochs=800,
        warmup=40,
    )
    small = Recipe(
        encoder="vit_micro",
        optimizer=AdamW(lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05),
        batch=256,
        epochs=20,
        warmup=2,
        hyperparameters=dict(decoder_width=128, decoder_depth=2),
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        vit = transformer(encoder, "MAE")
        vit.pool_("mean")
        vit.fix_positions_()
        pixels = facts.image.channels * vit.patch**2
        start = vit.config["start"]
        decoder = TokenPredictor(vit.width, self.decoder_width, self.decoder_depth, outputs=pixels, start=start)
        return Networks(encoder=vit, decoder=decoder)

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        images = self.view(batch, 0)
        tokens, predicted, pixels, visible, masked = self.predict(net, images, batch.key)
        loss = gather(patch_reconstruction(predicted, pixels, self.normalized)).mean()
        constant = gather(patch_reconstruction(torch.zeros_like(predicted), pixels, self.normalized)).mean()
        few, patch = images[:8], net.encoder.patch
        yield Objective(
            loss,
            terms={"explained": 1 - loss / constant},
            embedding=gather(tokens.mean(dim=1)),
            images={
                "view": few,
                "masked": views.visible(few, visible[:8], patch),
                "reconstruction": painted(few, masked[:8], self.shown(predicted, pixels)[:8], patch),
            },
        )

    def predict(self, net: Networks, images: Tensor, key: Tensor) -> Prediction:
        """Returns the decoder's prediction of the masked patches, which the keys choose. images: (N, C, H, W)."""
        grid, patch = net.encoder.grid_of(images), net.encoder.patch
        visible = views.kept_patches(key, prod(grid), self.ratio, 1)
        masked = views.other_patches(visible, prod(grid))
        tokens = net.encoder.tokens(images, visible)[:, 1:]
        predicted = net.decoder(tokens, visible, masked, grid)
        return Prediction(tokens, predicted, at(patches(images, patch, patch).flatten(2), masked), visible, masked)

    def reconstruct(self, net: Networks, images: Tensor, key: Tensor) -> Mapping[str, Tensor]:
        _, predicted, pixels, visible, masked = self.predict(net, images, key)
        patch = net.encoder.patch
        reconstruction = painted(images, masked, self.shown(predicted, pixels), patch)
        return {"masked": views.visible(images, visible, patch), "reconstruction": reconstruction}

    def shown(self, predicted: Tensor, pixels: Tensor) -> Tensor:
        """Returns the prediction as pixels in [0, 1], (N, M, P). If targets were normalized, each patch gets its true
        mean and standard deviation."""
        if self.normalized:
            variance, mean = torch.var_mean(pixels.float(), dim=2, keepdim=True)
            predicted = predicted * (variance + 1e-6).sqrt() + mean
        return predicted.detach().clamp(0, 1)
