"""Rotation: the network predicts by how many quarter turns an image was rotated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import SGD, AdamW
from sanslabel.recipe import Recipe

VIEW = views.View(flip=0.5)


@dataclass(frozen=True, kw_only=True)
class Rotation(Method):
    """Unsupervised representation learning by predicting image rotations (Gidaris, Singh and Komodakis 2018). The
    energy of an image and a rotation is minus the rotation's logit. All four copies of an image are in the batch.

    Crops are square and are rotated after resizing. Resizing treats rows and columns alike, so interpolation reveals no
    angle. Nothing can be learned from images without an upright position, or with a view that turns some images upside
    down."""

    family = Family.PRETEXT
    energy = "minus the logit of the rotation that was applied"
    prevents_collapse = "four rotations must be distinguished"
    paper = "Unsupervised Representation Learning by Predicting Image Rotations"
    year = 2018
    needs = "images with an upright position"

    view: views.View = VIEW
    """mirrored but not cropped, as in the authors' code for CIFAR-10"""

    recipe = Recipe(
        encoder="resnet50",
        optimizer=SGD(lr=0.1, weight_decay=1e-4),
        scaling="linear",
        batch=256,
        epochs=105,
        warmup=5,
    )
    """the training of the common ResNet-50 reference; the authors' is for an AlexNet"""
    small = Recipe(
        encoder="conv",
        optimizer=AdamW(lr=3e-3, weight_decay=1e-4),
        batch=64,
        epochs=10,
        warmup=1,
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        return Networks(encoder=encoder, classifier=nn.Linear(encoder.width, 4))

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        view = self.view(batch, 0)  # (N, C, S, S)
        copies = views.rotations(view).flatten(0, 1)  # (4N, C, S, S), the four of a sample next to each other
        representation = net.encoder(copies)  # (4N, D)
        logits = gather(net.classifier(representation)).float()  # (4N, 4)
        rotation = torch.arange(4, device=logits.device).repeat(len(logits) // 4)
        yield Objective(
            cross_entropy(logits, rotation),
            terms={"accuracy": (logits.argmax(dim=1) == rotation).float().mean()},
            embedding=gather(representation[::4]),
            images={"view": view, "rotations": copies[:4]},
            trivial=log(4),
        )
