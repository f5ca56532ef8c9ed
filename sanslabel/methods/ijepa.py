"""I-JEPA: from the tokens of one part of an image, tell the tokens that a slow copy of the encoder has for others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

from torch import nn
from torch.nn.functional import layer_norm

from sanslabel import losses, views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.diagnostics import spread_by_place
from sanslabel.distributed import all_reduce_mean, gather, standardized
from sanslabel.encoders import Encoder
from sanslabel.encoders.tokens import at
from sanslabel.encoders.vit import transformer
from sanslabel.heads.token_predictor import TokenPredictor
from sanslabel.memory import ema_, teacher_of
from sanslabel.methods.method import Method, Networks, Objective
from sanslabel.optimizers import AdamW
from sanslabel.recipe import Recipe
from sanslabel.schedules import linear

CROPS = views.View(crop=(0.3, 1.0))
WEAK = replace(CROPS, crop=(0.5, 1.0), flip=0.5)
STILL_AT_FIRST = dict(momentum=1.0, final_momentum=0.98)
SMALL = dict(predictor_width=64, predictor_depth=3, target_norm="batch", variance=0.1, view=WEAK, **STILL_AT_FIRST)


@dataclass(frozen=True, kw_only=True)
class IJEPA(Method):
    """An image-based joint-embedding predictive architecture (Assran et al. 2023). Energy of a block of patches: the
    smooth L1 distance between the tokens that the predictor tells from the context and the teacher's, which the paper
    calls target encoder. Defaults are the authors' for ViT-B/16, which has no class token; masks differ as `multiblock`
    says. The small recipe adds a variance term, without which few dimensions stay in use."""

    family = "prediction"
    energy = "the distance of predicted tokens from the teacher's tokens of the whole image"
    prevents_collapse = "the teacher is slow, and its tokens are normalized; at small scale a variance term besides"
    paper = "Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture"
    year = 2023
    needs = "a transformer and a momentum teacher"
    positive = ("targets", "predictor_width", "predictor_depth", "beta")
    fractions = ("momentum", "final_momentum")

    targets: int = 4
    """blocks that are predicted, each by itself"""
    target_scale: tuple[float, float] = (0.15, 0.2)
    """range of a target's part of the patches"""
    target_ratio: tuple[float, float] = (0.75, 1.5)
    """range of a target's height/width"""
    context_scale: tuple[float, float] = (0.85, 1.0)
    """range of the part of the patches in the square from which targets are taken off to be the context"""
    predictor_width: int = 384
    predictor_depth: int = 6
    """12 for larger encoders"""
    target_norm: Literal["layer", "batch"] = "layer"
    """of targets: each token by itself, as in the paper, or each feature at a place over the images of the batch"""
    beta: float = 1.0
    """β, the difference from which the loss is linear"""
    momentum: float = 0.996
    """of the teacher at the start"""
    final_momentum: float = 1.0
    """to which it goes in a line"""
    variance: float = 0.0
    """weight of VICReg's variance term, and of 1/25 its covariances, on mean context tokens; the paper has none"""
    view: views.View = CROPS

    recipe = Recipe(
        encoder="vit_base",
        optimizer=AdamW(lr=1e-3, weight_decay=0.04),
        batch=2048,
        epochs=600,
        warmup=40,
        warmup_start=0.2,
        final_lr_factor=1e-3,
        final_decay=0.4,
    )
    # A teacher that stands still at first gives the student something to learn before it follows.
    small = Recipe(
        optimizer=AdamW(lr=1e-3, weight_decay=0.05), encoder="vit_micro", epochs=20, warmup=2, hyperparameters=SMALL
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
        whole = net.teacher.encoder.tokens(images)[:, 1:].float()  # (N, L, D)
        plain = layer_norm(whole, whole.shape[2:])
        target = standardized(whole) if self.target_norm == "batch" else plain
        tokens = net.encoder.tokens(images, context)[:, 1:]
        contexts = [x.repeat_interleave(self.targets, dim=0) for x in (tokens, context)]
        prediction = net.predictor(*contexts, blocks.flatten(0, 1), grid)  # (N T, M, D)
        prediction, places = prediction.view(len(images), -1, whole.shape[2]), blocks.flatten(1)  # (N, T M)
        loss = gather(losses.smooth_l1(prediction, at(target, places), self.beta)).mean()
        if self.variance:
            h = gather(tokens.mean(dim=1))
            loss = loss + losses.vicreg(h, h, 0.0, self.variance, self.variance / 50)
        spreads = [all_reduce_mean(spread_by_place(x, places, prod(grid))) for x in (at(plain, places), prediction)]
        yield Objective(
            loss,
            terms={"target_std": spreads[0], "prediction_std": spreads[1]},
            embedding=gather(whole.mean(dim=1)),
            images={"view": images[:8], "context": views.visible(images[:8], context[:8], net.encoder.patch)},
            trivial=0.0,
        )
        ema_(net.teacher, net, linear(clock.progress, self.momentum, self.final_momentum))

    def encoders(self, net: Networks) -> Mapping[str, nn.Module]:
        return {"teacher": net.teacher.encoder, "student": net.encoder}
