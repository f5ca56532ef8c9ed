"""PIRL: an image and its shuffled tiles must both find the memory of the image among all memories."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import log
from typing import Literal

from torch import Tensor, nn

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.diagnostics import hardest_tenth
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.encoders.patches import standardized
from sanslabel.heads import mlp
from sanslabel.losses import chance, instance_discrimination, nce
from sanslabel.memory import Bank, ema_, filling, teacher_of
from sanslabel.methods.method import Method, Networks, Objective
from sanslabel.optimizers import SGD, AdamW
from sanslabel.randomness import bits, integers
from sanslabel.recipe import Recipe

NEGATIVES, TRANSFORM = 3, 4
"""streams that they are drawn from"""
VIEW = replace(views.WEAK, crop=(0.08, 1.0), jitter=1.0, hue=0.2, blur=0.0)
PIECES = replace(VIEW, crop=(0.6, 1.0), size=255)
CROPS = replace(views.SIMCLR, crop=(0.2, 1.0))
DESCENT = SGD(lr=0.03, weight_decay=1e-4)
SMALL = dict(temperature=0.2, negatives=None, hidden=512, tile=None, view=CROPS, pieces=replace(CROPS, crop=(0.6, 1.0)))


@dataclass(frozen=True, kw_only=True)
class PIRL(Method):
    """Pretext-invariant representations (Misra and van der Maaten 2020): what a pretext task would predict, the order
    of tiles or a turn, is not to matter. Energy of a pair: minus the cosine of an entry of the bank and an embedding, f
    of the image or g of its tiles. Defaults are the authors' for ImageNet, with linear heads; but a batch shares its
    negatives, and tiles are standardized one by one. As in `npid`, the first epoch only fills the bank."""

    family = "contrastive"
    energy = "minus the cosine of an image, or its shuffled tiles, and its memory"
    prevents_collapse = "the memories of all other images, or some drawn by chance, are negatives"
    paper = "Self-Supervised Learning of Pretext-Invariant Representations"
    year = 2020
    needs = "a memory of every sample"
    positive = ("temperature", "negatives", "width", "hidden", "tile")
    fractions = ("momentum", "weight")

    transform: Literal["tiles", "rotation"] = "tiles"
    """nine tiles in random order, or quarter turns of the whole image"""
    weight: float = 0.5
    """λ, of the transformed image; the rest is the image's"""
    temperature: float = 0.07
    """τ"""
    negatives: int | None = 32_000
    """K of noise-contrastive estimation, drawn from the bank; None is the exact softmax over the whole bank"""
    momentum: float = 0.5
    """of the bank, which the image's embedding alone enters"""
    width: int = 128
    """of the embeddings"""
    hidden: int | None = None
    """width of a hidden layer in the heads; without it they are linear"""
    tile: int | None = 64
    """side in pixels of a tile; None derives it from the view's"""
    teacher: float | None = None
    """momentum of a second encoder whose embedding enters the bank; the paper has none"""
    view: views.AnyView = VIEW
    pieces: views.View = PIECES
    """the view that is cut into tiles or turned"""

    recipe = Recipe(
        encoder="resnet50", optimizer=DESCENT, scaling="linear", batch=1024, epochs=800, final_lr_factor=0.001
    )
    small = Recipe(optimizer=AdamW(lr=2e-3, weight_decay=1e-4), epochs=20, warmup=2, hyperparameters=SMALL)

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        widths = [encoder.width, *([] if self.hidden is None else [self.hidden]), self.width]
        net = Networks(encoder=encoder, projector=mlp(*widths, norm=False), part=mlp(*widths, norm=False))
        if self.teacher is not None:
            net.teacher = teacher_of(net)
        net.whole = mlp(9 * self.width, self.width, norm=False) if self.transform == "tiles" else nn.Identity()
        net.bank = Bank(facts.counted("pirl"), self.width)
        net.register_buffer("partition", net.bank.partition(self.temperature))  # Z
        return net

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        view, index, bank = self.view.input(batch, 0), gather(batch.index), net.bank.rows
        if clock.epoch == 0 and clock.steps > clock.steps_per_epoch:  # the only epoch of a run trains
            with filling(net):
                net.bank.write_(index, gather(net.projector(net.encoder(*view))))
            net.partition.copy_(net.bank.partition(self.temperature))  # the last of these stays, see `npid`
            return
        f = gather(net.projector(net.encoder(*view)))  # (N, D)
        kept = f if self.teacher is None else gather(net.teacher.projector(net.teacher.encoder(*view)))
        parts = self.parts(batch, getattr(net.encoder, "patch", 1))  # (N, P, C, s, s)
        each = net.part(net.encoder(parts.flatten(0, 1))).unflatten(0, parts.shape[:2])  # (N, P, D)
        g = gather(net.whole(each.flatten(1)))  # (N, D)
        if self.negatives is None:
            of_g, of_f = (instance_discrimination(z, bank, index, self.temperature) for z in (g, f))
            hardest, trivial = hardest_tenth(g, bank, self.temperature, excluded=index), log(len(bank))
        else:
            drawn = bank[net.bank.drawn(batch.key.new_full((1,), clock.key), self.negatives, NEGATIVES)[0]]  # (K, D)
            of_g, of_f = (nce(z, bank[index], drawn, self.temperature, len(bank), net.partition) for z in (g, f))
            hardest, trivial = hardest_tenth(g, drawn, self.temperature), chance(self.negatives)
        loss, images = self.weight * of_g + (1 - self.weight) * of_f, {"view": view.images, self.transform: parts[0]}
        terms, count = {"hardest_tenth": hardest}, self.negatives or len(bank) - 1
        yield Objective(loss, "", terms, embedding=f, positive=g, images=images, trivial=trivial, negatives=count)
        net.bank.write_(index, kept, self.momentum)
        if self.teacher is not None:
            ema_(net.teacher, net, self.teacher)

    def parts(self, batch: Batch, patch: int) -> Tensor:
        """What g reads of each sample, (N, P, C, s, s): nine tiles in random order, or the turned image."""
        image = self.pieces(batch, 1)
        if self.transform == "rotation":
            return views.rotated(image, integers(batch.key, 1, 4, TRANSFORM)[:, 0])[:, None]
        cut = views.tiles(image, batch.key, self.tile or views.tile_side(image.shape[-1], patch), 1)
        return views.shuffled(standardized(cut), bits(batch.key, 9, TRANSFORM).argsort(dim=1))
