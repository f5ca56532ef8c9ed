"""NPID: every image is a class of its own, and a memory of its past embedding stands for the class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import log

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.diagnostics import hardest_tenth
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.heads import mlp
from sanslabel.losses import chance, instance_discrimination, nce
from sanslabel.memory import Bank, ema_, filling, teacher_of
from sanslabel.methods.method import Method, Networks, Objective
from sanslabel.optimizers import SGD, AdamW
from sanslabel.recipe import Recipe

NEGATIVES = 3
"""the stream that they are drawn from"""
VIEW = replace(views.WEAK, jitter=1.0, hue=0.4, blur=0.0)


@dataclass(frozen=True, kw_only=True)
class NPID(Method):
    """Non-parametric instance discrimination (Wu et al. 2018). Energy of a pair: minus the cosine of an image's
    embedding and an entry of the bank. Defaults are the authors' for ImageNet: a linear layer to 128 and noise-
    contrastive estimation; for CIFAR-10 they have the exact softmax and τ = 0.1. The paper's bank is random at first;
    here the first epoch only fills it, since random entries would push the loss above that of chance."""

    family = "contrastive"
    energy = "minus the cosine of an image and its memory"
    prevents_collapse = "the memories of all other images, or some drawn by chance, are negatives"
    paper = "Unsupervised Feature Learning via Non-Parametric Instance Discrimination"
    year = 2018
    needs = "a memory of every sample"
    positive = ("temperature", "negatives", "width")

    temperature: float = 0.07
    """τ"""
    negatives: int | None = 4096
    """K of noise-contrastive estimation, drawn from the bank; None is the exact softmax over the whole bank"""
    shared: bool = False
    """whether the images of a batch share their negatives, which takes N times less memory"""
    momentum: float = 0.5
    """of the bank"""
    width: int = 128
    """of the embedding"""
    teacher: float | None = None
    """momentum of a second encoder whose embedding enters the bank; the paper has none"""
    view: views.AnyView = VIEW

    recipe = Recipe(
        encoder="resnet50",
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

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        net = Networks(encoder=encoder, projector=mlp(encoder.width, self.width, norm=False))
        if self.teacher is not None:
            net.teacher = teacher_of(net)
        net.bank = Bank(facts.counted("npid"), self.width)
        net.register_buffer("partition", net.bank.partition(self.temperature))  # Z
        return net

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        view, index, bank = self.view.input(batch, 0), gather(batch.index), net.bank.rows
        if clock.epoch == 0 and clock.steps > clock.steps_per_epoch:  # the only epoch of a run trains
            with filling(net):
                net.bank.write_(index, gather(net.projector(net.encoder(*view))))
            # The last of these stays. Of random rows Z is thousands of times smaller than of embeddings, which are
            # all alike at the start: negatives then outweigh the positive, and the loss rises instead of falling.
            net.partition.copy_(net.bank.partition(self.temperature))
            return
        z = gather(net.projector(net.encoder(*view)))  # (N, D)
        kept = z if self.teacher is None else gather(net.teacher.projector(net.teacher.encoder(*view)))
        if self.negatives is None:
            loss, trivial = instance_discrimination(z, bank, index, self.temperature), log(len(bank))
            hardest = hardest_tenth(z, bank, self.temperature, excluded=index)
        else:
            keys = batch.key.new_full((1,), clock.key) if self.shared else gather(batch.key)
            drawn = net.bank.drawn(keys, self.negatives, NEGATIVES)  # (N, K), or (1, K) where they are shared
            some, own = bank[drawn[0]], None if self.shared else drawn
            loss = nce(z, bank[index], some if self.shared else bank, self.temperature, len(bank), net.partition, own)
            hardest, trivial = hardest_tenth(z, some, self.temperature), chance(self.negatives)
        yield Objective(
            loss,
            terms={"hardest_tenth": hardest},
            embedding=z,
            images={"view": view.images},
            trivial=trivial,
            negatives=self.negatives or len(bank) - 1,
        )
        net.bank.write_(index, kept, self.momentum)
        if self.teacher is not None:
            ema_(net.teacher, net, self.teacher)
