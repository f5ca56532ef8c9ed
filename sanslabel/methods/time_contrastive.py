"""Time-contrastive network: frames near in time are alike, and far frames of the same clip are not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.constraints import Bounds, Positive
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.errors import BadInput
from sanslabel.heads import mlp
from sanslabel.losses import near_and_far, time_triplet
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import AdamW
from sanslabel.recipe import Recipe

COLORS = views.View(jitter=1.0, brightness=0.125, saturation=0.5, without_rgb="omit")


@dataclass(frozen=True, kw_only=True)
class TimeContrastive(Method):
    """Time-contrastive networks from a single view (Sermanet et al. 2018). The energy of two frames is the squared
    distance of their embeddings. Defaults are the authors' code, whose clips have 29 frames a second.

    Their batch is one stretch of one clip. Here it may have stretches of several clips, each of which is compared with
    itself; `recipe` keeps their batch. Their encoder is a pretrained
    Inception v3 with two more convolutions and a spatial softmax, of which they train only what they added. Here the
    whole encoder is trained, a ResNet-50, since any encoder can be chosen. Their last BatchNorm has a shift, which is
    left out. They add the squared weights to the loss; here the weight decay is decoupled. They change brightness by a
    sum; here it is a factor. Frames without a negative are left out, of which the authors' loss makes a constant."""

    family = Family.CONTRASTIVE
    energy = "the squared distance of two frames"
    prevents_collapse = "a far frame must be farther than a near one, by a margin"
    paper = "Time-Contrastive Networks: Self-Supervised Learning from Video"
    year = 2018
    needs = "frames with times, such as a video"

    near: Annotated[float, Positive] = 0.21
    """seconds up to which frames are positives: 6 frames of the authors' clips"""
    far: Annotated[float, Positive] = 0.42
    """seconds beyond which frames are negatives: 12 frames of the authors' clips"""
    margin: Annotated[float, Positive] = 0.2
    """least difference of the two squared distances"""
    frames: Annotated[int, Bounds(least=2)] = 36
    """frames of a clip that follow each other in a batch"""
    hidden: Annotated[int, Positive] = 2048
    """width of the projector's hidden layer"""
    width: Annotated[int, Positive] = 32
    """width of the embedding"""
    view: views.View = COLORS
    """random brightness and saturation without a crop, as in the authors' code"""

    recipe = Recipe(
        encoder="resnet50",
        optimizer=AdamW(lr=1e-3, weight_decay=1e-6),
        batch=36,
        epochs=100,
        final_lr_factor=1.0,
    )
    small = Recipe(
        encoder="conv",
        optimizer=AdamW(lr=1e-3, weight_decay=1e-4),
        batch=256,
        epochs=20,
        warmup=2,
        hyperparameters=dict(frames=32, hidden=512),
    )

    @property
    def stretch(self) -> int:
        return self.frames

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        if self.far < self.near:
            raise BadInput(f"--method.far {self.far}: must be at least --method.near, {self.near}; raise it.")
        projector = mlp(encoder.width, self.hidden, self.width, final_norm=True, affine=False)
        return Networks(encoder=encoder, projector=projector)

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        view = self.view.input(batch, 0)
        clips, times = map(gather, batch.clips_and_times())
        z = gather(net.projector(net.encoder(*view)))  # (N, D)
        yield Objective(
            time_triplet(z, times, self.near, self.far, self.margin, clips),
            embedding=z,
            positive=z[_nearest_positive(times, self.near, self.far, clips)],
            images={"view": view.images},
            trivial=self.margin,
        )


def _nearest_positive(times: Tensor, near: float, far: float, clips: Tensor) -> Tensor:
    """Returns the positive that is nearest in time to each frame, or the frame itself if it has none, (N,) int64."""
    positive, _ = near_and_far(times, near, far, clips)
    gap = torch.where(positive, (times[:, None] - times).abs(), torch.inf)
    oneself = torch.arange(len(times), device=times.device)
    return torch.where(positive.any(dim=1), gap.argmin(dim=1), oneself)
