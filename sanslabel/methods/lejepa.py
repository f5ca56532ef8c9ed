"""LeJEPA: crops of an image meet at one point, and all images together are to be a round Gaussian cloud."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch.nn.functional import normalize

from sanslabel import losses, views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.heads import mlp
from sanslabel.methods.method import Method, Networks, Objective
from sanslabel.optimizers import AdamW
from sanslabel.randomness import normal
from sanslabel.recipe import Recipe
from sanslabel.views import forward_by_size

LOCAL = replace(views.WEAK, crop=(0.05, 0.3), saturation=0.2, solarize=0.2)
CROPS = views.MultiCrop(global_crop=replace(LOCAL, crop=(0.3, 1.0)), local_crop=LOCAL)


@dataclass(frozen=True, kw_only=True)
class LeJEPA(Method):
    """A joint embedding with sketched isotropic Gaussian regularization (Balestriero and LeCun 2025). Energy of a crop:
    its squared distance from the mean of the global crops. No teacher, no predictor and no stopped gradient. Defaults
    are the authors' for ImageNet; a local crop has 3/7 of the side, 96 pixels of 224, where theirs has 98."""

    family = "redundancy reduction"
    energy = "the squared distance of a crop from the mean of the global ones"
    prevents_collapse = "projections on random directions are held to the standard normal distribution"
    paper = "LeJEPA: Provable and Scalable Self-Supervised Learning Without the Heuristics"
    year = 2025
    needs = "multi-crop"
    positive = ("directions", "hidden", "width")
    fractions = ("regularization",)

    regularization: float = 0.05
    """λ, of SIGReg, which includes the factor N; 1 - λ is the weight of the distance"""
    directions: int = 1024
    """M, drawn anew in every step, the same on all processes"""
    hidden: int = 2048
    """width of the projector's two hidden layers"""
    width: int = 64
    """D, of the embedding; 16 to 128 in the paper"""
    view: views.MultiCrop = CROPS

    recipe = Recipe(
        encoder="vit_small",
        optimizer=AdamW(lr=5e-4, weight_decay=0.05),
        batch=512,
        epochs=100,
        warmup=10,
        final_lr_factor=0.001,
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
        embeddings = net.projector(torch.cat(forward_by_size(net.encoder, crops))).float()  # (V N, D)
        z = torch.stack([gather(part) for part in embeddings.chunk(len(crops))])  # (V, N, D)
        numbers = normal(batch.key.new_full((1,), clock.key), self.directions * self.width, stream=0)
        directions = normalize(numbers.view(self.directions, self.width), dim=1)  # (M, D)
        invariance = (z - z[:2].mean(dim=0)).square().mean()
        # The views of an image are not independent of each other, so that each view is a sample of its own.
        gaussianity = torch.stack([losses.sigreg(view, directions) for view in z]).mean()
        yield Objective(
            (1 - self.regularization) * invariance + self.regularization * gaussianity,
            terms={"invariance": invariance, "sigreg": gaussianity},
            embedding=z[0],
            positive=z[1],
            images={"first view": crops[0].images, "second view": crops[1].images, "last view": crops[-1].images},
            trivial=self.regularization * 0.402048 * z.shape[1],
        )
