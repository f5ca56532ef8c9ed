"""Supervised: the network predicts the labels, as a reference for methods that learn without labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import log

from torch import nn

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.errors import BadInput
from sanslabel.losses import cross_entropy
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import SGD, AdamW
from sanslabel.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Supervised(Method):
    """A linear classifier on the representation, trained by cross-entropy. The energy of an image and a label is minus
    the label's logit. Samples without a label (-1) are left out of the loss.

    `recipe` is torchvision's reference for a ResNet-50 (He et al. 2016). The paper crops squares of 224 pixels from
    images whose shorter side is 256 to 480, and lowers the learning rate when the error no longer falls. torchvision
    takes BatchNorm's statistics on each GPU, here they are those of the batch."""

    family = Family.SUPERVISED
    energy = "minus the label's logit"
    prevents_collapse = "the labels"
    paper = "Deep Residual Learning for Image Recognition"
    year = 2016
    needs = "labels"
    learns_from_labels = True

    smoothing: float = 0.0
    """smoothing of the labels; 0 in the paper"""
    view: views.AnyView = views.RECONSTRUCTION

    recipe = Recipe(
        encoder="resnet50",
        decode_factor=4.1,
        optimizer=SGD(lr=0.1, weight_decay=1e-4),
        scaling="linear",
        epochs=90,
        milestones=(30 / 90, 60 / 90),
        decay_all=True,
    )
    small = Recipe(
        encoder="conv",
        optimizer=AdamW(lr=3e-3, weight_decay=1e-2),
        epochs=20,
        warmup=2,
        hyperparameters=dict(view=replace(views.RECONSTRUCTION, crop=(0.5, 1.0))),
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        if not facts.classes:
            raise BadInput("supervised: the data has no labels; sort the images into one folder for each class.")
        return Networks(encoder=encoder, classifier=nn.Linear(encoder.width, facts.classes))

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        view = self.view.input(batch, 0).images  # (N, C, S, S)
        representation = net.encoder(view)  # (N, D)
        logits, labels = gather(net.classifier(representation)), gather(batch.labels())  # (N, classes), (N,)
        labeled = (labels >= 0).sum().clamp(min=1)
        yield Objective(
            cross_entropy(logits, labels, self.smoothing),
            terms={"accuracy": (logits.argmax(dim=1) == labels).sum() / labeled},
            embedding=gather(representation),
            images={"view": view},
            trivial=log(logits.shape[1]),
        )
