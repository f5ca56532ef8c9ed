"""NPID: every image is a class of its own, and its last embedding, kept in a bank, stands for the class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import log
from typing import Annotated

import torch
from torch import Tensor

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.constraints import Fraction, Positive
from sanslabel.diagnostics import hardest_tenth
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.errors import BadInput
from sanslabel.heads import mlp
from sanslabel.losses import chance, info_nce, instance_discrimination, nce, partition
from sanslabel.memory import Bank, add_teacher_, filling, follow_
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import SGD, AdamW
from sanslabel.recipe import Recipe

NEGATIVES = 3
"""the stream that negatives are drawn from"""
VIEW = replace(views.WEAK, jitter=1.0, hue=0.4, blur=0.0)


@dataclass(frozen=True, kw_only=True)
class NPID(Method):
    """Non-parametric instance discrimination (Wu et al. 2018). The energy of a pair is minus the cosine of an image's
    embedding and an embedding in the bank. Defaults are the authors' for ImageNet, except for the loss; for CIFAR-10
    they use the exact softmax (`negatives=None`) and τ = 0.1.

    The loss is the cross-entropy of finding the image among 1 + K, which needs no Z. The authors' later models have it,
    too. `nce` is the paper's noise-contrastive estimation, with Z as in the authors' code. On small sets the bank is
    full before embeddings spread, and Z is far too small then: on 1,024 digits the loss of `nce` rises to 20 times its
    value at chance. docs/negatives.md compares both on 60,000 images.

    Unlike the authors', the first epoch only fills the bank, since random embeddings would push a cross-entropy above
    its value at chance. `nce` trains from the first step on, since its Z is that of a random bank. Several processes
    share BatchNorm's statistics, where the authors' GPUs do not."""

    family = Family.CONTRASTIVE
    energy = "minus the cosine of an image and its embedding in the bank"
    prevents_collapse = "the embeddings of all other images, or of some drawn by chance, are negatives"
    paper = "Unsupervised Feature Learning via Non-Parametric Instance Discrimination"
    year = 2018
    needs = "a memory of every sample"
    embeds_views = True

    temperature: Annotated[float, Positive] = 0.07
    """τ"""
    negatives: Annotated[int | None, Positive] = 4096
    """K, number of negatives, drawn from the bank; None is the exact softmax over all of the bank"""
    nce: bool = False
    """noise-contrastive estimation in place of the cross-entropy; Z is that of the first batch and the random bank"""
    shared: bool = False
    """the images of a batch share their negatives, which takes N times less memory"""
    momentum: Annotated[float, Fraction] = 0.5
    """momentum of the bank"""
    width: Annotated[int, Positive] = 128
    """width of the embedding"""
    teacher_momentum: Annotated[float | None, Fraction] = None
    """momentum of a teacher whose embeddings enter the bank; the paper has none"""
    view: views.AnyView = VIEW

    recipe = Recipe(
        encoder="resnet50",
        decode_factor=2.6,
        optimizer=SGD(lr=0.03, weight_decay=1e-4),
        scaling="linear",
        batch=256,
        epochs=200,
        milestones=(0.6, 0.8),
        decay_all=True,
    )
    small = Recipe(
        encoder="conv",
        optimizer=AdamW(lr=2e-3, weight_decay=1e-4),
        batch=256,
        epochs=20,
        warmup=2,
        hyperparameters=dict(temperature=0.1, negatives=None, shared=True, view=replace(views.SIMCLR, crop=(0.2, 1.0))),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nce and self.negatives is None:
            raise BadInput("--method.nce draws its negatives; give their number (--method.negatives 4096).")

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        net = Networks(encoder=encoder, projector=mlp(encoder.width, self.width, norm=False))
        add_teacher_(net, self.teacher_momentum)
        net.bank = Bank(facts.counted("npid"), self.width)
        net.register_buffer("partition", torch.zeros(()))  # Z of `nce`, 0 before the first batch
        return net

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        view, index = self.view.input(batch, 0), gather(batch.index)
        # A run of a single epoch trains in its only epoch.
        if clock.epoch == 0 and clock.steps > clock.steps_per_epoch and not self.nce:
            with filling(net):
                net.bank.write_(index, gather(net.projector(net.encoder(*view))))
            return
        z = gather(net.projector(net.encoder(*view)))  # (N, D)
        remembered = z
        if self.teacher_momentum is not None:
            remembered = gather(net.partner.projector(net.partner.encoder(*view)))
        bank, drawn = net.bank.embeddings, self.drawn(net, batch, clock)
        normalizer = self.normalizer(net, z, index, drawn, clock)
        rivals, excluded = (bank, index) if drawn is None else (bank[drawn[0]], None)
        yield Objective(
            self.loss(z, bank, index, drawn, normalizer),
            terms={"hardest_tenth": hardest_tenth(z, rivals, self.temperature, excluded=excluded)},
            embedding=z,
            images={"view": view.images},
            trivial=self.trivial(len(bank)),
            negatives=self.negatives or len(bank) - 1,
        )
        net.bank.write_(index, remembered, self.momentum)
        net.partition.copy_(normalizer)
        follow_(net, self.teacher_momentum)

    def drawn(self, net: Networks, batch: Batch, clock: Clock) -> Tensor | None:
        """Returns the indexes of negatives in the bank, (N, K), or (1, K) if they are shared. None stands for all."""
        if self.negatives is None:
            return None
        keys = batch.key.new_full((1,), clock.key) if self.shared else gather(batch.key)
        return net.bank.random_index(keys, self.negatives, NEGATIVES)

    def normalizer(self, net: Networks, z: Tensor, index: Tensor, drawn: Tensor | None, clock: Clock) -> Tensor:
        """Returns Z of `nce`: that of the first batch, or of the next if the first step was refused."""
        if not self.nce or clock.epoch > 0:
            return net.partition
        bank = net.bank.embeddings
        first = partition(z, bank[index], bank, self.temperature, len(bank), drawn)
        return torch.where(net.partition > 0, net.partition, first)

    def loss(self, z: Tensor, bank: Tensor, index: Tensor, drawn: Tensor | None, normalizer: Tensor) -> Tensor:
        """Returns the loss of embeddings (N, D), whose places in the bank are `index`."""
        if drawn is None:
            return instance_discrimination(z, bank, index, self.temperature)
        if self.nce:
            return nce(z, bank[index], bank, self.temperature, len(bank), normalizer, drawn)
        return info_nce(z, bank[index], bank, self.temperature, drawn)

    def trivial(self, samples: int) -> float:
        """Returns the loss if all embeddings are equal."""
        if self.negatives is None:
            return log(samples)
        return chance(self.negatives) if self.nce else log(1 + self.negatives)
