"""Readouts: vectors from one stage of an encoder, from chosen tokens, or from all stages side by side."""

from __future__ import annotations

from math import isqrt
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from sanslabel.device import on_capable_device
from sanslabel.encoders import Encoder
from sanslabel.errors import BadInput

Tokens = Literal["class", "mean", "patches"]
NUMBERS = 2048
"""about the number of values that a stage is reduced to, so that wide maps and narrow ones are probed alike"""


class Readout(nn.Module):
    """One vector for each image, read from one stage of an encoder.

    stage: 1 for the first, None for the last. tokens: the class token of a transformer, the mean of its patches, or all
        patches one after the other. Without tokens, the encoder pools the stage itself. Raises BadInput for a stage or
        for tokens that the encoder lacks.
    images (N, C, H, W) -> (N, D).
    """

    def __init__(self, encoder: Encoder, stage: int | None, tokens: Tokens | None) -> None:
        super().__init__()
        stage_shapes = shapes(encoder)
        if stage is not None and not 1 <= stage <= len(stage_shapes):
            raise BadInput(
                f"--stage {stage}: {encoder.config['name']} has the stages 1 to {len(stage_shapes)}; choose one."
            )
        if tokens is not None and len(stage_shapes[(stage or 0) - 1]) != 3:
            raise BadInput(f"--tokens {tokens}: {encoder.config['name']} has no tokens; leave it out.")
        self.encoder, self.stage, self.tokens = encoder, stage, tokens
        self.config = {"stage": stage, "tokens": tokens}

    def forward(self, images: Tensor) -> Tensor:
        stage = self.encoder.stages(images)[(self.stage or 0) - 1]
        if self.tokens == "class":
            return stage[:, 0]
        if self.tokens is not None:
            patches = stage[:, 1:]  # (N, T, D)
            return patches.mean(dim=1) if self.tokens == "mean" else patches.flatten(1)
        return self.encoder.pooled(stage)


class Stages(nn.Module):
    """All stages of an encoder, one after the other.

    A map is averaged over fields, so many that about 2,048 numbers are left. From tokens, the class token and the mean
    of the patches are taken.

    images (N, C, H, W) -> (N, the sum of `widths`).
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.widths = [_flat(torch.empty(1, *shape[1:])).shape[1] for shape in shapes(encoder)]

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([_flat(on_capable_device(stage)) for stage in self.encoder.stages(images)], dim=1)


@torch.no_grad()
def shapes(encoder: Encoder) -> list[torch.Size]:
    """Returns the shape of each stage for a single image."""
    training, home = encoder.training, next(encoder.parameters()).device
    stages = encoder.eval().stages(torch.zeros(1, *encoder.reads.shape, device=home))
    encoder.train(training)
    return [stage.shape for stage in stages]


def _flat(stage: Tensor) -> Tensor:
    """Returns a stage as one vector for each image: (N, C, h, w), (N, T, D) or (N, D) -> (N, about NUMBERS or less)."""
    if stage.ndim == 4:
        side = min(stage.shape[-1], max(1, isqrt(NUMBERS // stage.shape[1])))
        return adaptive_avg_pool2d(stage, side).flatten(1)
    return torch.cat([stage[:, 0], stage[:, 1:].mean(dim=1)], dim=1) if stage.ndim == 3 else stage
