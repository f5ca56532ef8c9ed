"""Rotation: the network predicts by how many quarter turns an image was rotated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from typing import Literal

import torch
from torch import nn

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.losses import cross_entropy
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import SGD, AdamW
from sanslabel.randomness import integers
from sanslabel.recipe import Group, Recipe

VIEW = views.View(flip=0.5)
ROTATION = 1
"""stream that rotations are drawn from"""


@dataclass(frozen=True, kw_only=True)
class Rotation(Method):
    """Unsupervised representation learning by predicting image rotations (Gidaris, Singh and Komodakis 2018). The
    energy of an image and a rotation is minus the rotation's logit.

    Crops are square and are rotated after resizing. Resizing treats rows and columns alike, so interpolation reveals no
    angle. Nothing can be learned from images without an upright position, or with a view that turns some images upside
    down.

    `recipe` is VISSL's for a ResNet-50, since the authors' is for an AlexNet. VISSL takes BatchNorm's statistics on
    each GPU, here they are those of the batch. VISSL also rotates an image before it crops and mirrors it. But an image
    that is rotated by one quarter and then mirrored is its mirror image rotated by three quarters, so the two labels
    could not be distinguished. Here, as in the authors' code, images are mirrored first."""

    family = Family.PRETEXT
    energy = "minus the logit of the rotation that was applied"
    prevents_collapse = "four rotations must be distinguished"
    paper = "Unsupervised Representation Learning by Predicting Image Rotations"
    year = 2018
    needs = "images with an upright position"

    rotations: Literal[1, 4] = 4
    """copies of each image in a batch: all four rotations, as in the authors' code, or one that is drawn for it"""
    view: views.View = VIEW
    """mirrored but not cropped; the authors' code also crops: at random from 32 pixels padded by 4 for CIFAR-10, and
    `RECONSTRUCTION` for ImageNet"""

    recipe = Recipe(
        encoder="resnet50",
        decode_factor=4.1,
        optimizer=SGD(lr=0.1, weight_decay=1e-4),
        scaling="linear",
        batch=256,
        epochs=105,
        milestones=(30 / 105, 60 / 105, 90 / 105, 100 / 105),
        groups=(Group(match="classifier.bias", decay_factor=1.0),),
        hyperparameters=dict(rotations=1, view=views.RECONSTRUCTION),
    )
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
        if self.rotations == 4:
            quarters = torch.arange(4, device=view.device).expand(len(view), 4)  # (N, R)
            copies = views.rotations(view).flatten(0, 1)  # (N R, C, S, S), those of a sample next to each other
        else:
            quarters = integers(batch.key, 1, 4, ROTATION)
            copies = views.rotated(view, quarters).flatten(0, 1)
        representation = net.encoder(copies)  # (N R, D)
        logits, rotation = gather(net.classifier(representation)), gather(quarters.flatten())  # (N R, 4), (N R)
        yield Objective(
            cross_entropy(logits, rotation),
            terms={"accuracy": (logits.argmax(dim=1) == rotation).float().mean()},
            embedding=gather(representation[:: self.rotations]),
            images={"view": view, "rotations": copies[:4]},
            trivial=log(4),
        )
