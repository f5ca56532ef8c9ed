"""DINO: from each crop, the student predicts a slow teacher's distribution of the image over outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import log
from typing import Annotated

import torch
from torch import nn

from sanslabel import losses, views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.constraints import Fraction, Positive
from sanslabel.diagnostics import usage
from sanslabel.distributed import all_reduce_mean, gather
from sanslabel.encoders import Encoder
from sanslabel.heads import Directions, mlp
from sanslabel.memory import Center, follow_, teacher_of
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import AdamW
from sanslabel.recipe import Recipe
from sanslabel.schedules import cosine, linear


@dataclass(frozen=True, kw_only=True)
class DINO(Method):
    """Self-distillation with no labels (Caron et al. 2021). The energy of a pair is the cross-entropy between the
    teacher's distribution for one crop and the student's for another. The teacher's is centered and sharpened, and the
    teacher sees only the two global crops.

    Defaults are the authors' run of 100 epochs with ViT-S/16, with five differences. There is no stochastic depth,
    since no encoder here has it. As in timm, the class token starts near 0, and positions are resized with
    antialiasing. Crops are resized bilinearly, as in all methods; theirs bicubically. The blur of a local crop has a
    kernel of 9 pixels, a tenth of the crop as in SimCLR's code; theirs has no end."""

    family = Family.DISTILLATION
    energy = "the cross-entropy between the teacher's and the student's distribution"
    prevents_collapse = "centering keeps one output from taking all images; sharpening keeps outputs from being equal"
    paper = "Emerging Properties in Self-Supervised Vision Transformers"
    year = 2021
    needs = "multi-crop and a momentum teacher"
    embeds_views = True

    outputs: Annotated[int, Positive] = 65536
    """K, number of outputs"""
    hidden: Annotated[int, Positive] = 2048
    """width of the projector's two hidden layers"""
    bottleneck: Annotated[int, Positive] = 256
    """width of the embedding that is compared with one direction per output"""
    norm: bool = False
    """BatchNorm in the projector, which helps convolutional encoders"""
    temperature: Annotated[float, Positive] = 0.1
    """τ of the student"""
    first_teacher_temperature: Annotated[float, Positive] = 0.04
    """τ of the teacher in the first epoch"""
    teacher_temperature: Annotated[float, Positive] = 0.04
    """τ of the teacher after `sharp_epochs`, reached linearly; 0.07 for 300 epochs"""
    sharp_epochs: int = 30
    """epochs in which the teacher's temperature changes; the last of them has the new one, and an only one the first"""
    centering: bool = True
    """the mean logits are subtracted from the teacher's; without centering, one output takes all images"""
    center_momentum: Annotated[float, Fraction] = 0.9
    """momentum of the mean logits"""
    momentum: Annotated[float, Fraction] = 0.996
    """momentum of the teacher at the start, which rises to 1 along a cosine"""
    frozen_epochs: float = 1.0
    """first epochs, in which the directions of the outputs are not trained"""
    view: views.AnyCrops = views.DINO

    recipe = Recipe(
        encoder="vit_small",
        decode_factor=2.3,
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
    small = Recipe(
        encoder="conv",
        optimizer=AdamW(lr=2e-3, weight_decay=1e-4),
        batch=256,
        epochs=20,
        warmup=2,
        hyperparameters=dict(
            outputs=1024,
            hidden=512,
            norm=True,
            first_teacher_temperature=0.02,  # with 0.04, the loss of a short run stays at ln K
            teacher_temperature=0.02,
            momentum=0.99,
            view=replace(views.DINO, global_crop=replace(views.SIMCLR, crop=(0.4, 1.0)), local_crops=4),
        ),
    )

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
        of_teacher = net.teacher.projector(torch.cat(views.forward_by_size(net.teacher.encoder, crops[:2])))
        logits = net.teacher.directions(of_teacher).unflatten(0, (2, -1))  # (2, N, K)
        target = ((logits - net.center.mean) / self.sharpness(clock)).softmax(dim=-1)
        loss = gather(losses.dino(student, target, self.temperature)).mean()
        entropy = all_reduce_mean(torch.special.entr(target).sum(dim=-1).mean())
        mean_target = all_reduce_mean(target.mean(dim=(0, 1)))  # (K,)
        n = len(batch.index)
        yield Objective(
            loss,
            terms={"teacher_entropy": entropy, "kl": loss.detach() - entropy, "usage": usage(mean_target)},
            embedding=gather(z[:n]),
            positive=gather(z[n : 2 * n]),
            pair=(crops[0], crops[1]),
            images={"last view": crops[-1].images},
            trivial=log(self.outputs),
        )
        if self.centering:
            net.center.update_(gather(logits.mean(dim=(0, 1))[None]), self.center_momentum)
        follow_(net, cosine(clock.progress, self.momentum, 1.0))

    def sharpness(self, clock: Clock) -> float:
        """Returns τ of the teacher in this epoch."""
        last = self.sharp_epochs - 1
        warm = min(1.0, clock.epoch / last) if last > 0 else float(clock.epoch > last)
        return linear(warm, self.first_teacher_temperature, self.teacher_temperature)

    def encoders(self, net: Networks) -> Mapping[str, nn.Module]:
        return {"teacher": net.teacher.encoder, "student": net.encoder}
