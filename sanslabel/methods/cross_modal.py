"""Cross-modal: a picture and the sound of the same moment must find each other in the batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import log
from typing import Annotated

import torch
from torch import nn

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.constraints import Count, Positive
from sanslabel.diagnostics import hardest_tenth, matched, modality_gap
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.heads import Temperature, mlp
from sanslabel.losses import cross_modal
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import AdamW
from sanslabel.recipe import Recipe

VIEW = views.View(crop=(0.9, 1.0), ratio=(1.0, 1.0))


@dataclass(frozen=True, kw_only=True)
class CrossModal(Method):
    """Contrastive pre-training on pairs of two signals, as CLIP's (Radford et al. 2021) on pictures and captions, here
    on pictures and sounds. The energy of a pair is minus the cosine of its embeddings. Each signal has an encoder and a
    projector of its own, so that no BatchNorm mixes the two.

    Defaults are those of CLIP: a linear projector, crops without changes of color, and a learned temperature that stays
    at 0.01 or more. Sounds take the place of captions, as log-mel spectrograms. Samples of one clip are no negatives of
    each other; CLIP has no clips."""

    family = Family.CONTRASTIVE
    energy = "minus the cosine of a picture and its sound"
    prevents_collapse = "every other sound of the batch is a negative of a picture, and every other picture of a sound"
    paper = "Learning Transferable Visual Models From Natural Language Supervision"
    year = 2021
    needs = "pictures with sound"
    signals = ("image", "audio")

    temperature: Annotated[float, Positive] = 0.07
    """τ, or its start if it is learned"""
    learned: bool = True
    """learn the temperature with the weights, down to 0.01"""
    hidden: Annotated[int, Positive] = 512
    """width of the projectors' hidden layers"""
    width: Annotated[int, Positive] = 1024
    """width of the embeddings"""
    layers: Annotated[int, Count] = 1
    """number of layers in a projector"""
    view: views.View = VIEW
    """the view of pictures; sounds have a random window of their own"""

    recipe = Recipe(
        encoder="resnet50",
        decode_factor=1.2,
        optimizer=AdamW(lr=5e-4, weight_decay=0.2),
        batch=32_768,
        epochs=32,
        warmup=0.16,
    )
    small = Recipe(
        encoder="conv",
        optimizer=AdamW(lr=2e-3, weight_decay=1e-4),
        batch=256,
        epochs=20,
        warmup=2,
        hyperparameters=dict(width=128, layers=2, view=replace(views.RECONSTRUCTION, crop=(0.3, 1.0))),
    )

    def networks(self, encoder: Mapping[str, Encoder], facts: Facts) -> Networks:
        projectors = {
            signal: mlp(e.width, *[self.hidden] * (self.layers - 1), self.width) for signal, e in encoder.items()
        }
        net = Networks(encoders=nn.ModuleDict(encoder), projectors=nn.ModuleDict(projectors))
        if self.learned:
            net.temperature = Temperature(self.temperature)
        return net

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        picture = self.view.input(batch, 0)
        sound = views.LogMel.of(net.encoders["audio"].reads).input(batch, 1)
        a = gather(net.projectors["image"](net.encoders["image"](*picture)))  # (N, D)
        b = gather(net.projectors["audio"](net.encoders["audio"](*sound)))  # (N, D)
        temperature = net.temperature() if self.learned else a.new_full((), self.temperature)
        group = None if batch.group is None else gather(batch.group)
        partner = torch.arange(len(a), device=a.device)
        yield Objective(
            cross_modal(a, b, temperature, group),
            terms={
                "accuracy": matched(a, b),
                "modality_gap": modality_gap(a, b),
                "temperature": temperature,
                "hardest_tenth": hardest_tenth(a, b, temperature.detach(), excluded=partner),
            },
            embedding=a,
            positive=b,
            images={"picture": picture.images, "spectrogram": sound.images},
            trivial=log(len(a)),
            negatives=len(a) - 1,
        )
        if self.learned:
            net.temperature.limit_()

    def encoders(self, net: Networks) -> Mapping[str, nn.Module]:
        return dict(net.encoders.items())

    def embedders(self, net: Networks) -> Mapping[str, nn.Sequential]:
        """Returns for each signal its encoder and projector in one."""
        return {signal: nn.Sequential(net.encoders[signal], net.projectors[signal]) for signal in self.signals}
