"""Jigsaw: the network tells in which order it is shown the tiles of an image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log

from torch import nn
from torch.nn.functional import cross_entropy

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.encoders.patches import standardized
from sanslabel.heads import mlp
from sanslabel.methods.method import Method, Networks, Objective
from sanslabel.optimizers import SGD, AdamW
from sanslabel.randomness import integers
from sanslabel.recipe import Recipe

VIEW = views.View(flip=0.5, grayscale=0.66, without_rgb="omit")


@dataclass(frozen=True, kw_only=True)
class Jigsaw(Method):
    """Unsupervised learning of visual representations by solving jigsaw puzzles (Noroozi and Favaro 2016). Energy of
    shuffled tiles and a permutation: minus the permutation's logit. The tiles are apart and standardized one by one, so
    that neither edges nor brightness put them together. Defaults are the paper's, with the views and the width of a
    tile's embedding from the common ResNet-50 reference. A tile's embedding does not depend on where it is shown, so
    embeddings are shuffled in place of tiles."""

    family = "pretext"
    energy = "minus the logit of the permutation that was made"
    prevents_collapse = "permutations must be told apart"
    paper = "Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles"
    year = 2016
    needs = "3x3 tiles that an encoder can read"
    positive = ("width", "hidden", "shuffles")

    permutations: int = 1000
    """how many there are to be told apart, the most unlike ones of 9!"""
    width: int = 1000
    """of a tile's embedding"""
    hidden: int = 4096
    """of the layer that sees all tiles"""
    shuffles: int = 1
    """permutations drawn for each image; the paper has one. Tiles are encoded once, so that more cost little."""
    tile: int | None = None
    """side in pixels; None is three quarters of a third of the image"""
    view: views.View = VIEW
    """color would fit tiles by the lens's aberration, so that it mostly goes"""

    recipe = Recipe(
        encoder="resnet50",
        optimizer=SGD(lr=0.1, weight_decay=1e-4),
        scaling="linear",
        batch=256,
        epochs=105,
        warmup=5,
        milestones=(30 / 105, 60 / 105, 90 / 105, 100 / 105),
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
        parts = net.head(representation).unflatten(0, (-1, 9))  # (N, 9, width)
        drawn = integers(batch.key, self.shuffles, self.permutations, 1)  # (N, shuffles)
        shown = views.shuffled(parts.repeat_interleave(self.shuffles, dim=0), net.permutations[drawn].flatten(0, 1))
        logits, drawn = gather(net.classifier(shown.flatten(1))).float(), gather(drawn.flatten())
        yield Objective(
            cross_entropy(logits, drawn),  # of (N shuffles, permutations)
            terms={"accuracy": (logits.argmax(dim=1) == drawn).float().mean()},
            embedding=gather(representation.unflatten(0, (-1, 9)).mean(dim=1)),
            images={"view": view, "tiles": tiles[0]},
            trivial=log(self.permutations),
        )
