"""I-JEPA: the tokens of one part of an image predict a slow teacher's tokens of other parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Annotated, Literal

from torch import nn
from torch.nn.functional import layer_norm

from sanslabel import losses, views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.constraints import Count, Fraction, Positive
from sanslabel.diagnostics import spread_by_place
from sanslabel.distributed import all_reduce_mean, gather, standardized
from sanslabel.encoders import Encoder
from sanslabel.encoders.tokens import at
from sanslabel.encoders.vit import transformer
from sanslabel.heads.token_predictor import TokenPredictor
from sanslabel.losses.precision import widened
from sanslabel.memory import follow_, teacher_of
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import AdamW
from sanslabel.recipe import Recipe
from sanslabel.schedules import linear

CROPS = views.View(crop=(0.3, 1.0))


@dataclass(frozen=True, kw_only=True)
class IJEPA(Method):
    """An image-based joint-embedding predictive architecture (Assran et al. 2023). From the tokens of a context, the
    predictor predicts the tokens of blocks of patches. The energy of a block is the smooth L1 distance of its predicted
    tokens from the teacher's. The paper calls the teacher "target encoder".

    Defaults are the authors' for ViT-B/16. Their encoder has no class token; here one attends, at position 0. The
    embedding of patches starts as timm's. After warm-up, learning rate and weight decay are one step behind theirs,
    since all schedules here begin with step 0. The docstring of `views.multiblock` states how masks differ. The small
    recipe adds a variance term, without which few dimensions stay in use."""

    family = Family.PREDICTION
    energy = "the distance of predicted tokens from the teacher's tokens of the unmasked image"
    prevents_collapse = "the teacher is slow, and its tokens are normalized; the small recipe adds a variance term"
    paper = "Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture"
    year = 2023
    needs = "a transformer and a momentum teacher"

    targets: Annotated[int, Positive] = 4
    """number of blocks that are predicted, each by itself"""
    target_scale: tuple[float, float] = (0.15, 0.2)
    """range of a target's fraction of the patches"""
    target_ratio: tuple[float, float] = (0.75, 1.5)
    """range of a target's height/width"""
    context_scale: tuple[float, float] = (0.85, 1.0)
    """range of the context's fraction of the patches; the context is a square without the targets"""
    predictor_width: Annotated[int, Positive] = 384
    predictor_depth: Annotated[int, Count] = 6
    """number of the predictor's blocks; 12 for larger encoders"""
    target_norm: Literal["layer", "batch"] = "layer"
    """layer: each target token is normalized by itself, as in the paper; batch: each feature of a place is normalized
    over the images of the batch"""
    beta: Annotated[float, Positive] = 1.0
    """β, the difference above which the loss is linear"""
    momentum: Annotated[float, Fraction] = 0.996
    """momentum of the teacher at the start"""
    final_momentum: Annotated[float, Fraction] = 1.0
    """momentum of the teacher at the end, reached linearly"""
    variance: float = 0.0
    """weight of VICReg's variance and covariance terms (25 to 1) on mean context tokens; the paper has no such term"""
    view: views.View = CROPS

    recipe = Recipe(
        encoder="vit_base",
        decode_factor=2.3,
        optimizer=AdamW(lr=1e-3, weight_decay=0.04),
        batch=2048,
        epochs=600,
        warmup=40,
        warmup_start=0.2,
        final_lr_factor=1e-3,
        final_decay=0.4,
    )
    small = Recipe(
        encoder="vit_micro",
        optimizer=AdamW(lr=1e-3, weight_decay=0.05),
        batch=256,
        epochs=20,
        warmup=2,
        hyperparameters=dict(
            predictor_width=64,
            predictor_depth=3,
            target_norm="batch",
            variance=0.1,
            view=replace(CROPS, crop=(0.5, 1.0), flip=0.5),
            # The teacher stands still at first, so that the student has a fixed target before the teacher follows.
            momentum=1.0,
            final_momentum=0.98,
        ),
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        vit = transformer(encoder, "I-JEPA")
        vit.pool_("mean")
        vit.fix_positions_()
        predictor = TokenPredictor(vit.width, self.predictor_width, self.predictor_depth, outputs=vit.width)
        return Networks(encoder=vit, predictor=predictor, teacher=teacher_of(Networks(encoder=vit)))

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        grid = net.encoder.grid_of(images := self.view(batch, 0))
        shapes = self.targets, self.target_scale, self.target_ratio, self.context_scale
        context, blocks = views.multiblock(batch.key, clock.key, grid, *shapes, stream=1)  # (N, K), (N, T, M)
        of_teacher = widened(net.teacher.encoder.tokens(images)[:, 1:])  # (N, L, D)
        normalized = layer_norm(of_teacher, of_teacher.shape[2:])
        target = standardized(of_teacher) if self.target_norm == "batch" else normalized
        tokens = net.encoder.tokens(images, context)[:, 1:]
        contexts = [x.repeat_interleave(self.targets, dim=0) for x in (tokens, context)]
        prediction = net.predictor(*contexts, blocks.flatten(0, 1), grid)  # (N T, M, D)
        prediction, places = prediction.view(len(images), -1, target.shape[2]), blocks.flatten(1)  # (N, T M)
        loss, terms = gather(losses.smooth_l1(prediction, at(target, places), self.beta)).mean(), {}
        if self.variance:
            h = gather(tokens.mean(dim=1))
            _, variance, covariance = losses.vicreg_terms(h, h)
            terms = {"distance": loss, "variance": variance, "covariance": covariance}
            loss = loss + (self.variance * variance + self.variance / 50 * covariance)
        of_target, of_prediction = (
            all_reduce_mean(spread_by_place(x, places, prod(grid))) for x in (at(normalized, places), prediction)
        )
        yield Objective(
            loss,
            terms=terms | {"target_std": of_target, "prediction_std": of_prediction},
            embedding=gather(of_teacher.mean(dim=1)),
            images={"view": images[:8], "context": views.visible(images[:8], context[:8], net.encoder.patch)},
            trivial=0.0,
        )
        follow_(net, linear(clock.progress, self.momentum, self.final_momentum))

    def encoders(self, net: Networks) -> Mapping[str, nn.Module]:
        return {"teacher": net.teacher.encoder, "student": net.encoder}
