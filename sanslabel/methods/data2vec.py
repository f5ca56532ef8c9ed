"""data2vec: at masked patches, the student predicts a slow teacher's tokens of the unmasked image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from sanslabel import losses, views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.constraints import Fraction, Positive
from sanslabel.diagnostics import spread_by_place
from sanslabel.distributed import all_reduce_mean, gather, standardized
from sanslabel.encoders import Encoder
from sanslabel.encoders.tokens import MaskToken, at
from sanslabel.encoders.vit import transformer
from sanslabel.losses.precision import widened
from sanslabel.memory import follow_, teacher_of
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import AdamW
from sanslabel.recipe import Group, Recipe
from sanslabel.schedules import linear

WEAK = views.View(crop=(0.5, 1.0), flip=0.5)
BEIT = replace(WEAK, crop=(0.08, 1.0), jitter=1.0, brightness=0.4, contrast=0.4, saturation=0.4, without_rgb="omit")


@dataclass(frozen=True, kw_only=True)
class Data2Vec(Method):
    """data2vec for images (Baevski et al. 2022). The energy of a masked patch is the smooth L1 distance between the
    student's prediction and the teacher's token.

    Defaults are the authors' code for ViT-B/16, without stochastic depth, layer scale and dropout of attention, which
    these encoders lack. Positions are fixed, not relative, so that a mask token has its position from the start. The
    head starts as torch's layers do, and the mask token twice as wide as theirs. Crops are resized bilinearly, not
    bicubically, like all views here."""

    family = Family.PREDICTION
    energy = "the distance of the student's prediction from the teacher's token of the unmasked image"
    prevents_collapse = "the teacher is slow, and its tokens are normalized; the small recipe adds a variance term"
    paper = "data2vec: A General Framework for Self-supervised Learning in Speech, Vision and Language"
    year = 2022
    needs = "a transformer and a momentum teacher"

    ratio: Annotated[float, Positive, Fraction] = 120 / 196
    """fraction of the patches that are masked, in blocks"""
    smallest: Annotated[float, Positive, Fraction] = 16 / 196
    """smallest fraction of the patches that a block covers"""
    averaged: Annotated[int, Positive] = 6
    """K, number of the teacher's last blocks whose outputs are averaged"""
    target_norm: Literal["layer", "batch"] = "layer"
    """layer: each target token is normalized by itself, as in the paper; batch: each feature of a place is normalized
    over the images of the batch"""
    beta: Annotated[float, Positive] = 2.0
    """β, the difference above which the loss is linear"""
    visible: float = 0.0
    """weight of the same distance at the visible patches; the paper has no such term"""
    momentum: Annotated[float, Fraction] = 0.9998
    """momentum of the teacher at the start"""
    final_momentum: Annotated[float, Fraction] = 0.9998
    """momentum of the teacher at the end, reached linearly"""
    variance: float = 0.0
    """weight of VICReg's variance and covariance terms (25 to 1) on the student's mean tokens; the paper has no such
    term"""
    view: views.View = BEIT

    recipe = Recipe(
        encoder={"name": "vit_base", "start": "data2vec"},
        decode_factor=4.1,
        optimizer=AdamW(lr=2e-3, weight_decay=0.05),
        batch=2048,
        epochs=800,
        warmup=10,
        final_lr_factor=5e-3,
        clip=3.0,
        groups=(Group(match="encoder.cls_token", decay_factor=0.0), Group(match="mask.*", decay_factor=1.0)),
    )
    small = Recipe(
        encoder="vit_micro",
        optimizer=AdamW(lr=1e-3, weight_decay=0.05),
        batch=256,
        epochs=20,
        warmup=2,
        clip=3.0,
        # kNN accuracy is 67 % with all patches predicted, and 51 %, below random weights, with masked ones alone.
        hyperparameters=dict(
            averaged=3,
            target_norm="batch",
            visible=1.0,
            variance=1.0,
            momentum=0.98,
            final_momentum=0.996,
            view=WEAK,
        ),
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        vit = transformer(encoder, "data2vec")
        vit.pool_("mean")
        vit.fix_positions_()
        net = Networks(encoder=vit, mask=MaskToken(vit.width), head=nn.Linear(vit.width, vit.width))
        net.teacher = teacher_of(Networks(encoder=vit))
        return net

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        images, teacher = self.view(batch, 0), net.teacher.encoder
        patches = prod(grid := teacher.grid_of(images))
        count, smallest = (max(1, round(fraction * patches)) for fraction in (self.ratio, self.smallest))
        masked = views.blockwise(batch.key, grid, count, smallest, 1)  # (N, M)
        visible = views.other_patches(masked, patches)  # (N, L - M)
        after = teacher.tokens_after_each_block(teacher.embed(images))  # (N, 1 + L, D) each
        target, normalized = self.targets(after)  # (N, L, D) each
        tokens = net.encoder.tokens(images, masked=masked, fill=net.mask())[:, 1:]
        prediction = net.head(tokens)  # (N, L, D)
        weighted = [(w, at(prediction, x), at(target, x)) for w, x in ((1.0, masked), (self.visible, visible)) if w]
        distances = torch.stack([w * losses.smooth_l1(p, t, self.beta) for w, p, t in weighted]).sum(dim=0)  # (N,)
        loss, terms = gather(distances).mean(), {}
        if self.variance:
            h = gather(tokens.mean(dim=1))
            _, variance, covariance = losses.vicreg_terms(h, h)
            terms = {"distance": loss, "variance": variance, "covariance": covariance}
            loss = loss + (self.variance * variance + self.variance / 50 * covariance)
        spreads = [all_reduce_mean(spread_by_place(at(x, masked), masked, patches)) for x in (normalized, prediction)]
        yield Objective(
            loss,
            terms=terms | {"target_std": spreads[0], "prediction_std": spreads[1]},
            embedding=gather(teacher.norm(after[-1])[:, 1:].mean(dim=1)),
            images={"view": images[:8], "masked": views.visible(images[:8], visible[:8], teacher.patch)},
            trivial=0.0,
        )
        follow_(net, linear(clock.progress, self.momentum, self.final_momentum))

    def targets(self, after: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Returns the targets, and the average tokens, each normalized by itself: (N, L, D) each.

        after: the teacher's tokens (N, 1 + L, D) after each block.
        """
        blocks = [layer_norm(widened(tokens[:, 1:]), tokens.shape[2:]) for tokens in after[-self.averaged :]]
        average = torch.stack(blocks).mean(dim=0)  # (N, L, D)
        normalized = layer_norm(average, average.shape[2:])
        return standardized(average) if self.target_norm == "batch" else normalized, normalized
