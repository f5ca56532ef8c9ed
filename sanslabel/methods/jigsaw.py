"""Jigsaw: the network predicts in which order the tiles of an image are shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import log
from typing import Annotated

from torch import nn

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.constraints import Positive
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.encoders.patches import standardized
from sanslabel.heads import mlp
from sanslabel.losses import cross_entropy
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import SGD, AdamW
from sanslabel.randomness import integers
from sanslabel.recipe import Group, Recipe

VIEW = views.View(flip=0.5, grayscale=0.66, without_rgb="omit")


@dataclass(frozen=True, kw_only=True)
class Jigsaw(Method):
    """Unsupervised learning of visual representations by solving jigsaw puzzles (Noroozi and Favaro 2016). The energy
    of shuffled tiles and a permutation is minus the permutation's logit. There are gaps between tiles, and each tile is
    standardized by itself, so that neither edges nor brightness reveal the order.

    Defaults are the paper's; the width of a tile's embedding and `recipe` are from VISSL, the common ResNet-50
    reference. VISSL has 2,000 permutations and no hidden layer, and does not standardize tiles. It takes BatchNorm's
    statistics on each GPU, here they are those of all tiles of the batch. Its code leaves out the warm-up on a single
    machine. A tile's embedding does not depend on where the tile is shown, so the embeddings are shuffled, not the
    tiles."""

    family = Family.PRETEXT
    energy = "minus the logit of the permutation that was applied"
    prevents_collapse = "permutations must be distinguished"
    paper = "Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles"
    year = 2016
    needs = "3x3 tiles that an encoder can read"

    permutations: int = 1000
    """number of permutations to choose from: those of the 9! that differ most from each other"""
    width: Annotated[int, Positive] = 1000
    """width of a tile's embedding"""
    hidden: Annotated[int, Positive] = 4096
    """width of the layer that reads all tiles"""
    shuffles: Annotated[int, Positive] = 1
    """number of permutations drawn for each image, 1 in the paper; tiles are encoded once, so more permutations cost
    little"""
    tile: int | None = None
    """side of a tile in pixels; None takes three quarters of a cell, a third of the image"""
    view: views.View = VIEW
    """two of three images are gray, since chromatic aberration would reveal the order of colored tiles; `recipe` also
    takes 255 of 256 pixels of the shorter side, anywhere along the longer one"""

    recipe = Recipe(
        encoder="resnet50",
        optimizer=SGD(lr=0.1, weight_decay=1e-4),
        scaling="linear",
        batch=256,
        epochs=105,
        warmup=5,
        warmup_start=0.25,
        milestones=(30 / 105, 60 / 105, 90 / 105, 100 / 105),
        groups=(Group(match="classifier.3.bias", decay_factor=1.0),),  # the only bias; norms have no decay
        hyperparameters=dict(view=replace(VIEW, crop=((255 / 256) ** 2,) * 2, ratio=(1, 1), crop_of="square")),
    )
    small = Recipe(
        encoder="conv",
        optimizer=AdamW(lr=2e-3, weight_decay=1e-4),
        batch=256,
        epochs=20,
        warmup=2,
        hyperparameters=dict(permutations=100, width=128, hidden=1024, shuffles=4),
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        side = self.view.size or facts.image.side
        tile = self.tile or views.tile_side(side, encoder.config.get("patch", 1))
        encoder.read_patches_(tile, stride=side // 3)
        net = Networks(
            encoder=encoder,
            head=nn.Sequential(
                nn.Linear(encoder.width, self.width, bias=False), nn.BatchNorm1d(self.width), nn.ReLU(inplace=True)
            ),
            classifier=mlp(9 * self.width, self.hidden, self.permutations, final_bias=True),
        )
        net.register_buffer("permutations", views.permutations(self.permutations))  # (K, 9)
        return net

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        view = self.view(batch, 0)  # (N, C, S, S)
        tiles = standardized(views.tiles(view, batch.key, net.encoder.patches.size, 0))  # (N, 9, C, s, s)
        representation = net.encoder(tiles.flatten(0, 1))  # (9N, D)
        embeddings = net.head(representation).unflatten(0, (-1, 9))  # (N, 9, width)
        drawn = integers(batch.key, self.shuffles, self.permutations, 1)  # (N, shuffles)
        order = net.permutations[drawn].flatten(0, 1)  # (N shuffles, 9)
        shuffled = views.shuffled(embeddings.repeat_interleave(self.shuffles, dim=0), order)
        logits, permutation = gather(net.classifier(shuffled.flatten(1))), gather(drawn.flatten())
        yield Objective(
            cross_entropy(logits, permutation),  # logits are (N shuffles, permutations)
            terms={"accuracy": (logits.argmax(dim=1) == permutation).float().mean()},
            embedding=gather(representation.unflatten(0, (-1, 9)).mean(dim=1)),
            images={"view": view, "tiles": tiles[0]},
            trivial=log(self.permutations),
        )
