"""PIRL: an image and its shuffled tiles must both find the image's embedding among those of all images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import log
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.constraints import Fraction, Positive
from sanslabel.diagnostics import hardest_tenth
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.encoders.patches import standardized
from sanslabel.errors import BadInput
from sanslabel.heads import mlp
from sanslabel.losses import chance, info_nce, instance_discrimination, nce, partition
from sanslabel.memory import Bank, add_teacher_, filling, follow_
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import SGD, AdamW
from sanslabel.randomness import bits, integers
from sanslabel.recipe import Recipe

NEGATIVES, TRANSFORM = 3, 4
"""the streams that negatives and transforms are drawn from"""
VIEW = replace(views.WEAK, crop=(0.08, 1.0), jitter=1.0, hue=0.2, blur=0.0, photometric=0.66)
PIECES = replace(VIEW, crop=(0.6, 1.0), size=255)
CROPS = replace(views.SIMCLR, crop=(0.2, 1.0))


@dataclass(frozen=True, kw_only=True)
class PIRL(Method):
    """Pretext-invariant representations (Misra and van der Maaten 2020): the representation should not depend on what a
    pretext task would predict, the order of tiles or a rotation. The energy of a pair is minus the cosine of two
    embeddings: f of the image or g of its tiles, and one in the bank.

    Defaults are the authors' for ImageNet with linear heads, except for the loss. It is the cross-entropy of finding
    the image among 1 + K, which needs no Z; the authors' models with a hidden layer have it, too. `nce` is the paper's
    noise-contrastive estimation, with Z as in the authors' code.

    Unlike theirs, the images of a batch and both losses share their negatives, which takes less memory. Tiles are
    standardized one by one, as in `jigsaw`. Grayscale comes before the photometric changes, in one map with the other
    colors. The rate falls with each step, not with each epoch. As in `npid`, the first epoch only fills the bank,
    except with `nce`, and several processes share BatchNorm's statistics."""

    family = Family.CONTRASTIVE
    energy = "minus the cosine of an image, or its shuffled tiles, and its embedding in the bank"
    prevents_collapse = "the embeddings of all other images, or of some drawn by chance, are negatives"
    paper = "Self-Supervised Learning of Pretext-Invariant Representations"
    year = 2020
    needs = "a memory of every sample"
    embeds_views = True

    transform: Literal["tiles", "rotation"] = "tiles"
    """nine tiles in random order, or quarter turns of the image"""
    weight: Annotated[float, Fraction] = 0.5
    """λ, weight of the transformed image's loss; 1 - λ is the weight of the image's"""
    temperature: Annotated[float, Positive] = 0.07
    """τ"""
    negatives: Annotated[int | None, Positive] = 32_000
    """K, number of negatives, drawn from the bank; None is the exact softmax over all of the bank"""
    nce: bool = False
    """noise-contrastive estimation in place of the cross-entropy; Z is that of the first batch and the random bank"""
    momentum: Annotated[float, Fraction] = 0.5
    """momentum of the bank, which contains embeddings of images alone, not of their tiles"""
    width: Annotated[int, Positive] = 128
    """width of the embeddings"""
    hidden: Annotated[int | None, Positive] = None
    """width of a hidden layer in the heads; None makes the heads linear. With it, ReLU follows the tiles' embeddings,
    too, as in the authors' heads with a hidden layer"""
    tile: Annotated[int | None, Positive] = 64
    """side of a tile in pixels; None derives it from the side of the view"""
    teacher_momentum: Annotated[float | None, Fraction] = None
    """momentum of a teacher whose embeddings enter the bank; the paper has none"""
    view: views.AnyView = VIEW
    pieces: views.View | views.LogMel = PIECES
    """the view that is rotated, or whose crop is cut into tiles; each tile has a flip, colors and blur of its own"""

    recipe = Recipe(
        encoder="resnet50",
        decode_factor=4.1,
        optimizer=SGD(lr=0.03, weight_decay=1e-4),
        scaling="linear",
        batch=1024,
        epochs=800,
        final_lr_factor=0.001,
    )
    small = Recipe(
        encoder="conv",
        optimizer=AdamW(lr=2e-3, weight_decay=1e-4),
        batch=256,
        epochs=20,
        warmup=2,
        hyperparameters=dict(
            temperature=0.2,
            negatives=None,
            hidden=512,
            tile=None,
            view=CROPS,
            pieces=replace(CROPS, crop=(0.6, 1.0)),
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nce and self.negatives is None:
            raise BadInput("--method.nce draws its negatives; give their number (--method.negatives 32000).")

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        widths = [encoder.width, *([] if self.hidden is None else [self.hidden]), self.width]
        net = Networks(encoder=encoder, projector=mlp(*widths, norm=False), tile_projector=mlp(*widths, norm=False))
        add_teacher_(net, self.teacher_momentum)
        tiles = self.transform == "tiles"
        net.joint_projector = mlp(9 * self.width, self.width, norm=False) if tiles else nn.Identity()
        net.bank = Bank(facts.counted("pirl"), self.width)
        net.register_buffer("partition", torch.zeros(()))  # Z of `nce`, 0 before the first batch
        return net

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        view, index = self.view.input(batch, 0), gather(batch.index)
        # A run of a single epoch trains in its only epoch.
        if clock.epoch == 0 and clock.steps > clock.steps_per_epoch and not self.nce:
            with filling(net):
                net.bank.write_(index, gather(net.projector(net.encoder(*view))))
            return
        tiles = self.transformed(batch, getattr(net.encoder, "patch", 1))  # (N, P, C, s, s)
        g = gather(self.joint(net, tiles))  # (N, D)
        # Tiles come first, so that BatchNorm's running statistics end with whole images, which evaluation reads.
        f = gather(net.projector(net.encoder(*view)))  # (N, D)
        remembered = f
        if self.teacher_momentum is not None:
            remembered = gather(net.partner.projector(net.partner.encoder(*view)))
        bank, negatives = net.bank.embeddings, self.drawn_negatives(net, batch, clock)
        normalizer = self.normalizer(net, g, index, negatives, clock)
        of_transformed, of_image = (self.loss(z, bank, index, negatives, normalizer) for z in (g, f))
        rivals, excluded = (bank, index) if negatives is None else (negatives, None)
        hardest = hardest_tenth(g, rivals, self.temperature, excluded=excluded)
        yield Objective(
            self.weight * of_transformed + (1 - self.weight) * of_image,
            terms={"hardest_tenth": hardest, "transformed_nll": of_transformed, "image_nll": of_image},
            embedding=f,
            positive=g,
            images={"view": view.images, self.transform: tiles[0]},
            trivial=self.trivial(len(bank)),
            negatives=self.negatives or len(bank) - 1,
        )
        net.bank.write_(index, remembered, self.momentum)
        net.partition.copy_(normalizer)
        follow_(net, self.teacher_momentum)

    def joint(self, net: Networks, tiles: Tensor) -> Tensor:
        """Returns g of the transformed images: (N, P, C, s, s) -> (N, D)."""
        embeddings = net.tile_projector(net.encoder(tiles.flatten(0, 1)))  # (N P, D)
        if self.hidden is not None and self.transform == "tiles":
            embeddings = embeddings.relu()
        return net.joint_projector(embeddings.unflatten(0, tiles.shape[:2]).flatten(1))

    def drawn_negatives(self, net: Networks, batch: Batch, clock: Clock) -> Tensor | None:
        """Returns the negatives of the batch, (K, D), drawn from the bank. None stands for all of the bank."""
        if self.negatives is None:
            return None
        key = batch.key.new_full((1,), clock.key)
        return net.bank.embeddings[net.bank.random_index(key, self.negatives, NEGATIVES)[0]]

    def normalizer(self, net: Networks, z: Tensor, index: Tensor, negatives: Tensor | None, clock: Clock) -> Tensor:
        """Returns Z of `nce`: that of the first batch of tiles, or of the next if the first step was refused."""
        if not self.nce or negatives is None or clock.epoch > 0:
            return net.partition
        bank = net.bank.embeddings
        first = partition(z, bank[index], negatives, self.temperature, len(bank))
        return torch.where(net.partition > 0, net.partition, first)

    def loss(self, z: Tensor, bank: Tensor, index: Tensor, negatives: Tensor | None, normalizer: Tensor) -> Tensor:
        """Returns the loss of f or g, (N, D), whose places in the bank are `index`."""
        if negatives is None:
            return instance_discrimination(z, bank, index, self.temperature)
        if self.nce:
            return nce(z, bank[index], negatives, self.temperature, len(bank), normalizer)
        return info_nce(z, bank[index], negatives, self.temperature)

    def trivial(self, samples: int) -> float:
        """Returns the loss if all embeddings are equal."""
        if self.negatives is None:
            return log(samples)
        return chance(self.negatives) if self.nce else log(1 + self.negatives)

    def transformed(self, batch: Batch, patch: int) -> Tensor:
        """Returns the images of each sample that g embeds, (N, P, C, s, s): nine tiles in random order, or the rotated
        image."""
        if self.transform == "rotation":
            return views.rotated(self.pieces(batch, 1), integers(batch.key, 1, 4, TRANSFORM)[:, 0])[:, None]
        image = self.pieces.crop_alone(batch, 1)
        tiles = views.tiles(image, batch.key, self.tile or views.tile_side(min(image.shape[-2:]), patch), 1)
        tiles = self.pieces.of_tiles(tiles, batch, 1)
        # Tiles of sound keep their level: the encoder is scaled for it, and no piece has to find its neighbors.
        tiles = tiles if self.pieces.signal == "audio" else standardized(tiles)
        return views.shuffled(tiles, bits(batch.key, 9, TRANSFORM).argsort(dim=1))
