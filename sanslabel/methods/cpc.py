"""CPC: the patches in the upper rows of an image predict those some rows below, which must be found among others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log

import torch
from torch import nn

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.diagnostics import share_of_tenth
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.encoders.patches import patches, standardized
from sanslabel.errors import BadInput
from sanslabel.heads import RowContext
from sanslabel.losses import Negatives, candidate_scores, predictive_coding
from sanslabel.methods.method import Method, Networks, Objective
from sanslabel.optimizers import AdamW
from sanslabel.recipe import Recipe

VIEW = views.View(crop=(0.73, 0.73), ratio=(1, 1), crop_of="square", flip=0.5, grayscale=0.66, without_rgb="omit")


@dataclass(frozen=True, kw_only=True)
class CPC(Method):
    """Representation learning with contrastive predictive coding (van den Oord, Li and Vinyals 2018). Energy of context
    and patch: minus the dot product of what is predicted with the patch's embedding. Patches overlap by half, 7x7 of 64
    pixels in an image of 256; those within an image are standardized one by one, as the encoder reads them afterwards.
    BatchNorm in the encoder shares its statistics among all patches of the batch, those to be found included; they are
    the same for every candidate, and embeddings have a LayerNorm of their own."""

    family = "contrastive"
    energy = "minus the dot product of prediction and patch"
    prevents_collapse = "other patches of the image and of other images are negatives"
    paper = "Representation Learning with Contrastive Predictive Coding"
    year = 2018
    needs = "a grid of patches that an encoder can read"
    positive = ("nearest", "hidden", "blocks")

    nearest: int = 2
    """rows from the context down to the first prediction; patches one row apart overlap, so that 1 is no task"""
    farthest: int = 5
    """rows down to the last prediction, where the grid has so many"""
    negatives: Negatives = "both"
    """other patches of the same image, patches of other images, or both"""
    hidden: int = 256
    """channels within the blocks of the context network"""
    blocks: int = 5
    """of the context network, each of which sees one row more"""
    view: views.View = VIEW
    """256 of 300 pixels of the shorter side; the paper takes all color away, which encoders of color would then miss"""

    recipe = Recipe(encoder="resnet50", optimizer=AdamW(lr=2e-4), batch=512, epochs=200)
    small = Recipe(
        encoder="conv",
        optimizer=AdamW(lr=2e-3, weight_decay=1e-4),
        batch=32,
        epochs=10,
        warmup=1,
        hyperparameters=dict(farthest=3, hidden=128, blocks=3),
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        side = self.view.size or facts.image.side
        unit = max(2, encoder.config.get("patch", 1))
        size = unit * max(-(-4 // unit), -(-side // (4 * unit)))  # a quarter; at least 4, or the encoder's patches
        encoder.read_patches_(size, stride=size // 2)
        rows = (side - size) // (size // 2) + 1
        if rows <= self.nearest:
            raise BadInput(
                f"cpc: {rows} rows of patches of {size} pixels have none {self.nearest} rows below another; give "
                "larger images (--image-size), an encoder with smaller patches, or a smaller --method.nearest."
            )
        steps = range(self.nearest, min(self.farthest, rows - 1) + 1)
        net = Networks(
            encoder=encoder,
            norm=nn.LayerNorm(encoder.width),
            context=RowContext(encoder.width, self.hidden, self.blocks),
            predictors=nn.ModuleList(nn.Linear(encoder.width, encoder.width, bias=False) for _ in steps),
        )
        for predictor in net.predictors:  # dot products of random vectors of this width would start far above ln K
            nn.init.zeros_(predictor.weight)
        return net

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        view = self.view(batch, 0)  # (N, C, S, S)
        parts = standardized(patches(view, *net.encoder.patches))  # (N, P, C, s, s)
        representation = net.encoder(parts.flatten(0, 1)).unflatten(0, parts.shape[:2])  # (N, P, D)
        z = net.norm(representation)
        rows = round(z.shape[1] ** 0.5)
        context = net.context(z.mT.unflatten(2, (rows, rows))).permute(0, 2, 3, 1)  # (N, R, R, D), of rows <= i
        below = list(enumerate(net.predictors, self.nearest))
        predicted = torch.cat([w(context[:, :-k]).flatten(1, 2) for k, w in below], dim=1)  # (N, Q, D)
        place = torch.arange(rows * rows, device=z.device)
        positive = torch.cat([place[k * rows :] for k, _ in below])  # (Q,)
        predicted, z = gather(predicted), gather(z)
        scores, right = candidate_scores(predicted[:16].detach(), z.detach(), positive, self.negatives)
        candidates = {"both": z[..., 0].numel(), "same": len(place), "other": z[1:, :, 0].numel() + 1}
        yield Objective(
            predictive_coding(predicted, z, positive, self.negatives),
            terms={
                "accuracy": (scores.argmax(dim=1) == right).float().mean(),
                "share_of_tenth": share_of_tenth(scores.scatter(1, right[:, None], float("-inf"))),
            },
            embedding=gather(representation.mean(dim=1)),
            images={"view": view, "patches": parts[0]},
            trivial=log(candidates[self.negatives]),
            negatives=candidates[self.negatives] - 1,
        )
