"""LeJEPA: the crops of an image share one embedding, and all embeddings together follow a normal distribution."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sanslabel import losses, views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.constraints import Fraction, Positive
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.heads import mlp
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import AdamW
from sanslabel.randomness import normal
from sanslabel.recipe import Recipe

LOCAL = replace(views.WEAK, crop=(0.05, 0.3), saturation=0.2, solarize=0.2)
CROPS = views.MultiCrop(global_crop=replace(LOCAL, crop=(0.3, 1.0)), local_crop=LOCAL)


@dataclass(frozen=True, kw_only=True)
class LeJEPA(Method):
    """A joint embedding with sketched isotropic Gaussian regularization (Balestriero and LeCun 2025). The energy of a
    crop is its squared distance from the mean of the global crops. There is no teacher, no predictor and no stopped
    gradient.

    The authors state crops, colors, optimizer, M, λ and 100 epochs for ImageNet, and `recipe` has these. They state no
    batch size, warm-up or D; those here are this project's. For a ResNet their weight decay is 5e-4. A local crop has
    3/7 of the side, 96 of 224 pixels; the authors' local crops have 98. Encoders here lack two parts of the authors'
    minimal example. These are stochastic depth of 0.1 and a linear layer on the class token, whose 512 outputs are the
    representation."""

    family = Family.REDUNDANCY_REDUCTION
    energy = "the squared distance of a crop from the mean of the global crops"
    prevents_collapse = "projections on random directions are kept near the standard normal distribution"
    paper = "LeJEPA: Provable and Scalable Self-Supervised Learning Without the Heuristics"
    year = 2025
    needs = "multi-crop"
    embeds_views = True

    regularization: Annotated[float, Fraction] = 0.05
    """λ, weight of SIGReg, which includes the factor N; 1 - λ is the weight of the distance"""
    directions: Annotated[int, Positive] = 1024
    """M, number of directions; they are drawn anew in every step, the same on all processes"""
    hidden: Annotated[int, Positive] = 2048
    """width of the projector's two hidden layers"""
    width: Annotated[int, Positive] = 64
    """D, width of the embedding; 16 to 128 in the paper"""
    view: views.AnyCrops = CROPS

    recipe = Recipe(
        encoder="vit_small",
        decode_factor=2.3,
        optimizer=AdamW(lr=5e-4, weight_decay=0.05),
        batch=512,
        epochs=100,
        warmup=10,
        final_lr_factor=0.001,
        decay_all=True,
    )
    small = Recipe(
        encoder="conv",
        optimizer=AdamW(lr=2e-3, weight_decay=1e-4),
        batch=256,
        epochs=20,
        warmup=2,
        hyperparameters=dict(directions=256, hidden=512, view=views.EASY),
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        head = mlp(encoder.width, self.hidden, self.hidden, self.width, bias=True, final_bias=True)
        return Networks(encoder=encoder, projector=head)

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        crops = self.view.inputs(batch)
        embeddings = net.projector(torch.cat(views.forward_by_size(net.encoder, crops))).float()  # (V N, D)
        z = torch.stack([gather(embedding) for embedding in embeddings.chunk(len(crops))])  # (V, N, D)
        directions = self.random_directions(batch.key, clock)
        invariance = (z - z[:2].mean(dim=0)).square().mean()
        # Views of one image depend on each other, so SIGReg is computed over the batch for each view by itself.
        sigreg = torch.stack([losses.sigreg(view, directions) for view in z]).mean()
        yield Objective(
            (1 - self.regularization) * invariance + self.regularization * sigreg,
            terms={"invariance": invariance, "sigreg": sigreg},
            embedding=z[0],
            positive=z[1],
            pair=(crops[0], crops[1]),
            images={"last view": crops[-1].images},
            trivial=self.regularization * 0.402048 * z.shape[1],
        )

    def random_directions(self, key: Tensor, clock: Clock) -> Tensor:
        """Returns M directions of unit length, (M, D), on the device of the keys. They depend on the step alone."""
        draws = normal(key.new_full((1,), clock.key), self.directions * self.width, stream=0)
        return normalize(draws.view(self.directions, self.width), dim=1)
