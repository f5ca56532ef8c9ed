"""MAE: a transformer sees a quarter of an image's patches, and a small one paints the others from what it says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.encoders.patches import painted, patches
from sanslabel.encoders.tokens import at
from sanslabel.encoders.vit import transformer
from sanslabel.heads.token_predictor import TokenPredictor
from sanslabel.losses import patch_reconstruction
from sanslabel.methods.method import Method, Networks, Objective
from sanslabel.optimizers import AdamW
from sanslabel.recipe import Recipe

CROPS = replace(views.RECONSTRUCTION, crop=(0.2, 1.0))


@dataclass(frozen=True, kw_only=True)
class MAE(Method):
    """Masked autoencoders (He et al. 2022). Energy of an image: the squared error of its masked patches' pixels, told
    from the others. Defaults are the authors' code for ViT-B/16, but for the class token, which stays out of the
    decoder here, and for uniform Xavier weights."""

    family = "generative"
    energy = "the squared error of the masked patches, given the visible ones"
    prevents_collapse = "the targets are pixels, which do not move"
    paper = "Masked Autoencoders Are Scalable Vision Learners"
    year = 2022
    needs = "a transformer"
    positive = ("decoder_width", "decoder_depth")
    fractions = ("ratio",)

    ratio: float = 0.75
    """of the patches that are masked"""
    decoder_width: int = 512
    decoder_depth: int = 8
    normalized: bool = True
    """whether the pixels of each patch are brought to mean 0 and variance 1 to be the target"""
    view: views.View = CROPS

    recipe = Recipe(
        encoder="vit_base",
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
        decoder = TokenPredictor(vit.width, self.decoder_width, self.decoder_depth, outputs=pixels)
        return Networks(encoder=vit, decoder=decoder)

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        images, size = self.view(batch, 0), net.encoder.patch
        tokens, prediction, pixels, keep, masked = self._told(net, images, batch.key)
        loss = gather(patch_reconstruction(prediction, pixels, self.normalized)).mean()
        constant = gather(patch_reconstruction(torch.zeros_like(prediction), pixels, self.normalized)).mean()
        few, told = images[:8], self._pixels(prediction, pixels)[:8]
        yield Objective(
            loss,
            terms={"explained": 1 - loss / constant},
            embedding=gather(tokens.mean(dim=1)),
            images={
                "view": few,
                "masked": views.visible(few, keep[:8], size),
                "reconstruction": painted(few, masked[:8], told, size),
            },
        )

    def reconstructed(self, net: Networks, images: Tensor, key: Tensor) -> Mapping[str, Tensor]:
        _, prediction, pixels, keep, masked = self._told(net, images, key)
        size = net.encoder.patch
        told = painted(images, masked, self._pixels(prediction, pixels), size)
        return {"masked": views.visible(images, keep, size), "reconstruction": told}

    def _told(self, net: Networks, images: Tensor, key: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Tokens of the visible patches (N, K, D), prediction and pixels of the masked ones (N, M, P) each, and which
        are visible (N, K) and masked (N, M)."""
        grid, size = net.encoder.grid_of(images), net.encoder.patch
        keep = views.kept_patches(key, prod(grid), self.ratio, 1)
        masked = views.other_patches(keep, prod(grid))
        tokens = net.encoder.tokens(images, keep)[:, 1:]
        prediction = net.decoder(tokens, keep, masked, grid)
        return tokens, prediction, at(patches(images, size, size).flatten(2), masked), keep, masked

    def _pixels(self, prediction: Tensor, pixels: Tensor) -> Tensor:
        """What is predicted, in [0, 1]: with the true mean and deviation of each patch where those were taken out."""
        if self.normalized:
            variance, mean = torch.var_mean(pixels.float(), dim=2, keepdim=True)
            prediction = prediction * (variance + 1e-6).sqrt() + mean
        return prediction.detach().clamp(0, 1)
