"""CPC: the upper rows of an image predict the patches some rows below, which must be found among other patches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from typing import Annotated

import torch
from torch import Tensor, nn

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.constraints import Bounds, Count, Positive
from sanslabel.diagnostics import share_of_tenth
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.encoders.patches import patches, standardized
from sanslabel.errors import BadInput
from sanslabel.heads import RowContext
from sanslabel.losses import Negatives, candidate_scores, predictive_coding
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import AdamW
from sanslabel.recipe import Recipe

VIEW = views.View(crop=(0.73, 0.73), ratio=(1, 1), crop_of="square", flip=0.5, grayscale=0.66, without_rgb="omit")


@dataclass(frozen=True, kw_only=True)
class CPC(Method):
    """Representation learning with contrastive predictive coding (van den Oord, Li and Vinyals 2018). The energy of a
    context and a patch is minus the dot product of the prediction with the patch's embedding.

    Patches overlap by half: an image of 256 pixels has 7x7 patches of 64. Each patch is standardized by itself, in
    training and whenever the encoder is used afterwards, so that brightness does not show which patches are of one
    image. A LayerNorm normalizes the embeddings, and predictors start at 0. Otherwise the loss would start far above
    ln K. The paper mentions none of the three.

    The paper's encoder is a ResNet-v2-101 up to its third block, without BatchNorm. Here it is any encoder. BatchNorm
    takes its statistics over all patches of the batch, candidates included, so they are the same for every candidate.
    Predictions have the width of the embeddings; Hénaff et al. (2020) project both to 64 numbers and multiply
    predictions by 0.1. The loss is the mean over all predictions, so near rows, which have more, weigh more. Their
    pseudo-code sums the means of the distances. `heads.RowContext` names what differs in the context network. The paper
    states neither a schedule nor a number of epochs: the constant learning rate and the 200 epochs are assumptions."""

    family = Family.CONTRASTIVE
    energy = "minus the dot product of prediction and patch"
    prevents_collapse = "other patches of the image and of other images are negatives"
    paper = "Representation Learning with Contrastive Predictive Coding"
    year = 2018
    needs = "a grid of patches that an encoder can read"

    nearest: Annotated[int, Positive] = 2
    """rows from the context down to the first prediction; 1 would be too easy, since patches one row apart overlap"""
    farthest: int = 5
    """rows from the context down to the last prediction, if the grid has that many"""
    negatives: Negatives = "both"
    """other patches of the same image, patches of other images, or both"""
    hidden: Annotated[int, Positive] = 256
    """channels within the blocks of the context network"""
    blocks: Annotated[int, Count] = 5
    """number of blocks in the context network; each reads one row further up"""
    subcrop: Annotated[float, Bounds(above=0, most=1)] = 1.0
    """side of the random square of each patch that is shown, as a share of the patch; 60 of 64 pixels in the paper"""
    view: views.View = VIEW
    """256 of 300 pixels of the shorter side; the paper removes all color, so that an encoder would not learn color"""

    recipe = Recipe(
        encoder="resnet50",
        decode_factor=1.18,  # 300 of 256 pixels, and what rounding takes
        optimizer=AdamW(lr=2e-4),
        batch=512,
        epochs=200,
        final_lr_factor=1.0,
        hyperparameters=dict(subcrop=60 / 64),
    )
    small = Recipe(
        encoder="conv",
        optimizer=AdamW(lr=2e-3, weight_decay=1e-4),
        batch=32,
        epochs=10,
        warmup=1,
        hyperparameters=dict(farthest=3, hidden=128, blocks=3),
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        side = self.view.size or facts.image.side
        unit = max(2, encoder.config.get("patch", 1))
        size = unit * max(-(-4 // unit), -(-side // (4 * unit)))  # a quarter, rounded up to whole units; at least 4
        encoder.read_patches_(size, stride=size // 2)
        grid = (side - size) // (size // 2) + 1
        if grid <= self.nearest:
            raise BadInput(
                f"cpc: {grid} rows of patches of {size} pixels are too few to predict {self.nearest} rows below; give "
                "larger images (--image-size), an encoder with smaller patches, or a smaller --method.nearest."
            )
        steps = range(self.nearest, min(self.farthest, grid - 1) + 1)
        net = Networks(
            encoder=encoder,
            norm=nn.LayerNorm(encoder.width),
            context=RowContext(encoder.width, self.hidden, self.blocks),
            predictors=nn.ModuleList(nn.Linear(encoder.width, encoder.width, bias=False) for _ in steps),
        )
        for predictor in net.predictors:
            nn.init.zeros_(predictor.weight)
        return net

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        view = self.view(batch, 0)  # (N, C, S, S)
        size, stride = net.encoder.patches
        pieces = standardized(patches(view, size, stride))  # (N, P, C, s, s)
        if (inner := round(self.subcrop * size)) < size:
            pieces = views.subcropped(pieces, batch.key, inner, 0)
        representation = net.encoder(pieces.flatten(0, 1)).unflatten(0, pieces.shape[:2])  # (N, P, D)
        z = net.norm(representation)
        predicted, positive = self.predictions(net, z)  # (N, Q, D), (Q,)
        predicted, z = gather(predicted), gather(z)
        count = len(z) * z.shape[1]
        candidates = {"both": count, "same": z.shape[1], "other": count - z.shape[1] + 1}[self.negatives]
        scores, right = candidate_scores(predicted[:16].detach(), z.detach(), positive, self.negatives)
        yield Objective(
            predictive_coding(predicted, z, positive, self.negatives),
            terms={
                "accuracy": (scores.argmax(dim=1) == right).float().mean(),
                "share_of_tenth": share_of_tenth(scores.scatter(1, right[:, None], float("-inf"))),
            },
            embedding=gather(representation.mean(dim=1)),
            images={"view": view, "patches": pieces[0]},
            trivial=log(candidates),
            negatives=candidates - 1,
        )

    def predictions(self, net: Networks, z: Tensor) -> tuple[Tensor, Tensor]:
        """Returns a prediction for every patch and every distance to a row below, (N, Q, D), and the positions of the
        predicted patches, (Q,). z: (N, P, D), the embeddings of a square grid of P patches."""
        side = round(z.shape[1] ** 0.5)
        context = net.context(z.mT.unflatten(2, (side, side))).permute(0, 2, 3, 1)  # (N, R, R, D), of rows <= i
        below = list(enumerate(net.predictors, self.nearest))
        predicted = torch.cat([predictor(context[:, :-k]).flatten(1, 2) for k, predictor in below], dim=1)
        place = torch.arange(side * side, device=z.device)
        return predicted, torch.cat([place[k * side :] for k, _ in below])
