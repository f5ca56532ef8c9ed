"""DINO: small and large crops must tell how a slow teacher sorts the whole picture into outputs of its own making."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import log

import torch
from torch import nn

from sanslabel import losses, views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.diagnostics import usage
from sanslabel.distributed import all_reduce_mean, gather
from sanslabel.encoders import Encoder
from sanslabel.heads import Directions, mlp
from sanslabel.memory import Center, ema_, teacher_of
from sanslabel.methods.method import Method, Networks, Objective
from sanslabel.optimizers import AdamW
from sanslabel.recipe import Recipe
from sanslabel.schedules import cosine, linear

SMALL = dict(
    outputs=1024,
    hidden=512,
    norm=True,
    first_teacher_temperature=0.02,  # a short run stays at ln K with 0.04
    teacher_temperature=0.02,
    momentum=0.99,
    view=replace(views.DINO, global_crop=replace(views.SIMCLR, crop=(0.4, 1.0)), local_crops=4),
)


@dataclass(frozen=True, kw_only=True)
class DINO(Method):
    """Self-distillation with no labels (Caron et al. 2021). Energy of a pair: the cross-entropy between the teacher's
    distribution for one crop, centered and sharpened, and the student's for another; the teacher sees the two global
    crops alone. Defaults are the authors' run of 100 epochs with ViT-S/16, without its stochastic depth."""

    family = "distillation"
    energy = "the cross-entropy between the teacher's and the student's distribution"
    prevents_collapse = "the teacher is centered, lest one output takes all, and sharpened, lest all are alike"
    paper = "Emerging Properties in Self-Supervised Vision Transformers"
    year = 2021
    needs = "multi-crop and a momentum teacher"
    positive = ("outputs", "hidden", "bottleneck", "temperature", "teacher_temperature", "first_teacher_temperature")
    fractions = ("momentum", "center_momentum")

    outputs: int = 65536
    """K"""
    hidden: int = 2048
    """width of the projector's two hidden layers"""
    bottleneck: int = 256
    """width of the embedding that is compared with one direction per output"""
    norm: bool = False
    """BatchNorm in the projector, which helps convolutional encoders"""
    temperature: float = 0.1
    """τ of the student"""
    first_teacher_temperature: float = 0.04
    """τ of the teacher in the first epoch"""
    teacher_temperature: float = 0.04
    """τ of the teacher from the last of `sharp_epochs` on, to which it goes in a line; 0.07 for 300 epochs"""
    sharp_epochs: int = 30
    centering: bool = True
    """whether the mean logits are taken off the teacher's; without it one output takes all"""
    center_momentum: float = 0.9
    momentum: float = 0.996
    """of the teacher at the start, which a cosine takes to 1"""
    frozen_epochs: float = 1.0
    """during which the directions of the outputs stay"""
    view: views.MultiCrop = views.DINO

    recipe = Recipe(
        encoder="vit_small",
        optimizer=AdamW(lr=5e-4, weight_decay=0.04),
        scaling="linear",
        batch=512,
        epochs=100,
        warmup=10,
        final_lr_factor=1e-3,
        final_decay=0.4,
        clip=3.0,
        clip_each=True,
    )
    small = Recipe(optimizer=AdamW(lr=2e-3, weight_decay=1e-4), epochs=20, warmup=2, hyperparameters=SMALL)

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        widths = encoder.width, self.hidden, self.hidden, self.bottleneck
        head = mlp(*widths, norm=self.norm, bias=True, final_bias=True, activation=nn.GELU, std=0.02)
        net = Networks(encoder=encoder, projector=head, directions=Directions(self.bottleneck, self.outputs))
        net.teacher = teacher_of(net)
        net.center = Center(self.outputs)
        return net

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        crops = self.view.inputs(batch)
        z = net.projector(torch.cat(views.forward_by_size(net.encoder, crops)))  # (V N, D)
        student = net.directions(z, clock.epochs < self.frozen_epochs).unflatten(0, (len(crops), -1))  # (V, N, K)
        globally = net.teacher.projector(torch.cat(views.forward_by_size(net.teacher.encoder, crops[:2])))
        logits = net.teacher.directions(globally).unflatten(0, (2, -1))  # (2, N, K)
        warm = min(1.0, clock.epoch / (self.sharp_epochs - 1)) if self.sharp_epochs > 1 else 1.0
        temperature = linear(warm, self.first_teacher_temperature, self.teacher_temperature)
        target = ((logits - net.center.mean) / temperature).softmax(dim=-1)
        loss = gather(losses.dino(student, target, self.temperature)).mean()
        entropy, used = (
            all_reduce_mean(torch.special.entr(target).sum(dim=-1).mean()),
            usage(all_reduce_mean(target.mean(dim=(0, 1)))),
        )
        yield Objective(
            loss,
            terms={"teacher_entropy": entropy, "kl": loss.detach() - entropy, "usage": used},
            embedding=gather(z[: len(batch.index)]),
            positive=gather(z[len(batch.index) : 2 * len(batch.index)]),
            images={"first view": crops[0].images, "second view": crops[1].images, "last view": crops[-1].images},
            trivial=log(self.outputs),
        )
        if self.centering:
            net.center.update_(gather(logits.mean(dim=(0, 1))[None]), self.center_momentum)
        ema_(net.teacher, net, cosine(clock.progress, self.momentum, 1.0))

    def encoders(self, net: Networks) -> Mapping[str, nn.Module]:
        return {"teacher": net.teacher.encoder, "student": net.encoder}
