"""Relative position: from two neighboring patches, the network predicts on which side of the first the second lies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from typing import Annotated

import torch
from torch import nn

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.constraints import Fraction, Positive
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.encoders.patches import standardized
from sanslabel.heads import Dropout
from sanslabel.losses import cross_entropy
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import SGD, AdamW
from sanslabel.recipe import Group, Recipe

VIEW = views.View(crop=(0.76, 0.76), ratio=(1, 1), crop_of="square", grayscale=0.66, without_rgb="omit")


@dataclass(frozen=True, kw_only=True)
class RelativePosition(Method):
    """Unsupervised visual representation learning by context prediction (Doersch, Gupta and Efros 2015). The energy of
    two patches and a direction is minus the direction's logit. The center of 3x3 patches is paired with all its 8
    neighbors.

    There are gaps between patches. Each patch lies at a random place in its cell and is standardized by itself.

    Defaults and `recipe` are those of the common ResNet-50 reference (Kolesnikov, Zhai and Beyer 2019), whose network
    has twice the usual channels. It squeezes images into squares, here they keep their proportions. Its gray is the
    mean of the channels, and standardized patches are not clamped. Its convolutions start from Glorot's distribution,
    here from torchvision's, and its BatchNorm has other constants."""

    family = Family.PRETEXT
    energy = "minus the logit of the neighbor's direction"
    prevents_collapse = "eight directions must be distinguished"
    paper = "Unsupervised Visual Representation Learning by Context Prediction"
    year = 2015
    needs = "3x3 patches that an encoder can read"

    width: Annotated[int, Positive] = 1000
    """width of a patch's embedding"""
    hidden: Annotated[int, Positive] = 4096
    """width of the layer that reads both patches"""
    dropout: Annotated[float, Fraction] = 0.5
    """probability of dropout after the hidden layer"""
    std: Annotated[float | None, Positive] = None
    """deviation of the classifier's first weights; None is torch's start"""
    tile: int | None = None
    """side of a patch in pixels; None takes three quarters of a cell, a third of the image"""
    view: views.View = VIEW
    """255 of 292 pixels of the shorter side; two of three images are gray, since chromatic aberration would reveal
    places"""

    recipe = Recipe(
        encoder={"name": "resnet50", "widening": 2},
        decode_factor=1.15,  # 292 of 255 pixels, and what rounding takes
        optimizer=SGD(lr=0.1, weight_decay=1e-4),
        scaling="linear",
        batch=128,
        epochs=35,
        warmup=5,
        milestones=(15 / 35, 25 / 35),
        groups=(
            Group(match="classifier.0.weight", decay_factor=5.0),
            Group(match="classifier.4.weight", decay_factor=5.0),
        ),
        hyperparameters=dict(std=0.005),
    )
    small = Recipe(
        encoder="conv",
        optimizer=AdamW(lr=2e-3, weight_decay=1e-4),
        batch=256,
        epochs=20,
        warmup=2,
        hyperparameters=dict(width=256, hidden=512, dropout=0.0),
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        side = self.view.size or facts.image.side
        tile = self.tile or views.tile_side(side, encoder.config.get("patch", 1))
        encoder.read_patches_(tile, stride=side // 3)
        net = Networks(
            encoder=encoder,
            head=nn.Linear(encoder.width, self.width),
            classifier=nn.Sequential(
                nn.Linear(2 * self.width, self.hidden, bias=False),
                nn.BatchNorm1d(self.hidden),
                nn.ReLU(inplace=True),
                Dropout(self.dropout),
                nn.Linear(self.hidden, 8),
            ),
        )
        if self.std is not None:
            nn.init.trunc_normal_(net.classifier[0].weight, std=self.std, a=-2 * self.std, b=2 * self.std)
            nn.init.trunc_normal_(net.classifier[4].weight, std=self.std, a=-2 * self.std, b=2 * self.std)
            nn.init.zeros_(net.classifier[4].bias)
        return net

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        view = self.view(batch, 0)  # (N, C, S, S)
        tiles = standardized(views.tiles(view, batch.key, net.encoder.patches.size, 0))  # (N, 9, C, s, s)
        representation = net.encoder(tiles.flatten(0, 1))  # (9N, D)
        embeddings = net.head(representation).unflatten(0, (-1, 9))  # (N, 9, width)
        center = embeddings[:, 4:5]
        neighbors = torch.cat([embeddings[:, :4], embeddings[:, 5:]], dim=1)  # (N, 8, width), row by row
        pairs = torch.cat([center.expand_as(neighbors), neighbors], dim=2)  # (N, 8, 2 width)
        logits = gather(net.classifier(pairs.flatten(0, 1)))  # (8N, 8)
        direction = torch.arange(8, device=logits.device).repeat(len(logits) // 8)
        yield Objective(
            cross_entropy(logits, direction),
            terms={"accuracy": (logits.argmax(dim=1) == direction).float().mean()},
            embedding=gather(representation.unflatten(0, (-1, 9)).mean(dim=1)),
            images={"view": view, "tiles": tiles[0]},
            trivial=log(8),
        )
