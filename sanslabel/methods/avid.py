"""AVID: a picture must find the remembered sound of its moment, and a sound the remembered picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from math import ceil, log
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.consensus import consensus, integers_without
from sanslabel.constraints import Count, Fraction, Positive
from sanslabel.diagnostics import hardest_tenth, matched, modality_gap
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.errors import BadInput
from sanslabel.heads import mlp
from sanslabel.losses import chance, info_nce, instance_discrimination, mean_exponential, nce
from sanslabel.memory import Bank, filling
from sanslabel.methods.method import Family, Method, Networks, Objective, Refused
from sanslabel.optimizers import AdamW
from sanslabel.recipe import Recipe

VIEW = replace(
    views.RECONSTRUCTION, jitter=1.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2, without_rgb="omit"
)
NEGATIVES, WITHIN = 3, 4
"""the streams that negatives of instances and of the consensus are drawn from"""
DIRECTIONS = {
    "cross_nll": (("image", "audio"), ("audio", "image")),
    "self_nll": (("image", "image"), ("audio", "audio")),
}
"""for each term of the loss, pairs of a signal and the bank that it is compared with"""
COMPARISONS = {"cross": ("cross_nll",), "self": ("self_nll",), "joint": ("cross_nll", "self_nll")}
"""the terms of each comparison"""


@dataclass(frozen=True, kw_only=True)
class AVID(Method):
    """Audio-visual instance discrimination with cross-modal agreement (Morgado et al. 2021). The energy of a pair is
    minus the cosine of an embedding and a remembered one. A bank for each signal remembers the last embedding of every
    sample. With `comparison="cross"`, a picture is compared with remembered sounds, and a sound with remembered
    pictures; with "self", each with its own bank; with "joint", both ways.

    `positives` adds cross-modal agreement (CMA) from a share of the run on. Samples that are near in both banks are
    positives of each other within each signal. They are found again every few epochs.

    Defaults are the authors' for Kinetics, except for these. They read half a second of video, and here it is one
    picture. Their spectrograms have 257 linear bands in decibels below the clip's maximum, which hides loudness; here
    they are log-mel. All clips of a video share one entry of their bank, and here each sample has its own. They write
    the banks before the update, as no memory is written here. Their Adam adds the weight decay to the gradient; here it
    is decoupled. They begin a new run for CMA, and here the run goes on. Their CMA admits the sample itself as a
    negative, and cannot compare instances within signals, since it stores these scores under other names. Both are
    mended here.

    `nce` is the paper's noise-contrastive estimation, whose Z is that of the first batch. Without it, the loss is the
    cross-entropy of finding the entry among 1 + K, or in the whole bank. As in `npid`, the first epoch then only fills
    the banks. `small` has BatchNorm in the projectors. Without it, two small encoders of 576 shapes with sound put all
    embeddings of a signal in one direction, and the loss stayed at its value at chance."""

    family = Family.CONTRASTIVE
    energy = "minus the cosine of a picture and the remembered sound of its moment, and the reverse"
    prevents_collapse = "the remembered embeddings of other samples are negatives"
    paper = "Audio-Visual Instance Discrimination with Cross-Modal Agreement"
    year = 2021
    needs = "pictures with sound, and a memory of every sample"
    signals = ("image", "audio")

    comparison: Literal["cross", "self", "joint"] = "cross"
    """the banks that an embedding is compared with: the other signal's, its own, or both"""
    temperature: Annotated[float, Positive] = 0.07
    """τ"""
    negatives: Annotated[int | None, Positive] = 1024
    """K, number of negatives, drawn from the bank; None is the exact softmax over all of the bank"""
    nce: bool = True
    """noise-contrastive estimation, as in the paper, in place of the cross-entropy"""
    positives: Annotated[int | None, Positive] = None
    """P, number of samples that are positives by consensus (CMA), 32 in the paper; None for none"""
    start: Annotated[float, Fraction] = 0.6
    """share of the run after which the consensus is used"""
    every: Annotated[int, Count] = 5
    """epochs after which the consensus is found again"""
    within_negatives: Annotated[int, Positive] = 64
    """number of negatives within a signal, for the consensus"""
    momentum: Annotated[float, Fraction] = 0.5
    """momentum of the banks"""
    hidden: Annotated[int, Positive] = 512
    """width of the projectors' hidden layers"""
    width: Annotated[int, Positive] = 128
    """width of the embeddings"""
    layers: Annotated[int, Count] = 3
    """number of layers in a projector"""
    norm: bool = False
    """BatchNorm between the layers of a projector; the paper has none"""
    view: views.View = VIEW
    """the view of pictures; sounds have a random window of their own"""

    recipe = Recipe(
        encoder="resnet18",
        decode_factor=4.1,
        optimizer=AdamW(lr=2e-4, weight_decay=1e-5),
        batch=256,
        epochs=300,
        final_lr_factor=1.0,
        decay_all=True,
    )
    small = Recipe(
        encoder="conv",
        optimizer=AdamW(lr=2e-3, weight_decay=1e-4),
        batch=256,
        epochs=20,
        warmup=2,
        hyperparameters=dict(
            negatives=None,
            nce=False,
            temperature=0.1,
            layers=2,
            norm=True,
            view=replace(views.RECONSTRUCTION, crop=(0.3, 1.0)),
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nce and self.negatives is None:
            raise BadInput("--method.nce draws its negatives; give their number (--method.negatives 1024).")

    def networks(self, encoder: Mapping[str, Encoder], facts: Facts) -> Networks:
        samples = facts.counted("avid")
        heads = {
            signal: mlp(e.width, *[self.hidden] * (self.layers - 1), self.width, norm=self.norm)
            for signal, e in encoder.items()
        }
        net = Networks(encoders=nn.ModuleDict(encoder), projectors=nn.ModuleDict(heads))
        net.banks = nn.ModuleDict({signal: Bank(samples, self.width) for signal in encoder})
        net.register_buffer("partition", torch.zeros(()))  # Z of `nce`, 0 before the first batch
        if self.positives is not None:
            count = min(self.positives, max(1, samples // 4))
            net.register_buffer("positives", torch.zeros(samples, count, dtype=torch.int64))
        return net

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        picture, index = self.view.input(batch, 0), gather(batch.index)
        sound = views.LogMel.of(net.encoders["audio"].reads).input(batch, 1)
        # A run of a single epoch trains in its only epoch.
        fills = clock.epoch == 0 and clock.steps > clock.steps_per_epoch and not self.nce
        with filling(net) if fills else nullcontext():
            inputs = {"image": picture, "audio": sound}
            z = {s: gather(net.projectors[s](net.encoders[s](*inputs[s]))) for s in self.signals}  # (N, D) each
        with suppress(Refused):  # a refused step leaves nothing in the banks, and the epoch ends all the same
            if not fills:
                terms, normalizer = self.terms(net, z, index, gather(batch.key), clock)
                yield Objective(
                    torch.stack(list(terms.values())).mean(),
                    terms=terms | self.figures(net, z, index),
                    embedding=z["image"],
                    positive=z["audio"],
                    images={"picture": picture.images, "spectrogram": sound.images},
                    trivial=self.trivial(clock, len(net.banks["audio"].embeddings)),
                    negatives=self.negatives or len(net.banks["audio"].embeddings) - 1,
                )
                net.partition.copy_(normalizer)
            for signal, embedding in z.items():
                net.banks[signal].write_(index, embedding.detach(), 0.0 if fills else self.momentum)
        if self.finds_consensus(clock):
            image, audio = (net.banks[signal].embeddings for signal in self.signals)
            net.positives.copy_(consensus(image, audio, net.positives.shape[1]))

    def terms(
        self, net: Networks, z: Mapping[str, Tensor], index: Tensor, key: Tensor, clock: Clock
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Returns the terms of the loss, () each, whose mean is the loss, and Z of `nce`.

        z: signal -> (N, D); index, key: (N,), the places of the samples in the banks, and their keys.
        """
        banks = {signal: bank.embeddings for signal, bank in net.banks.items()}
        samples, entry = len(banks["image"]), index[:, None]
        excluded = torch.cat([entry, net.positives[index]], dim=1).sort(dim=1).values if self.agrees(clock) else entry
        drawn = None
        if self.negatives is not None:
            drawn = integers_without(key, self.negatives, samples, excluded, NEGATIVES)
        query, bank = DIRECTIONS[COMPARISONS[self.comparison][0]][0]
        normalizer = self.normalizer(net, z[query], banks[bank], drawn, clock)
        terms = {
            term: torch.stack([self.loss(z[s], banks[t], entry, drawn, normalizer) for s, t in DIRECTIONS[term]]).mean()
            for term in COMPARISONS[self.comparison]
        }
        if self.agrees(clock):
            drawn = integers_without(key, self.within_negatives, samples, excluded, WITHIN)
            within = [self.loss(z[s], banks[s], net.positives[index], drawn, normalizer) for s in self.signals]
            terms["consensus_nll"] = torch.stack(within).mean()
        return terms, normalizer

    def loss(self, z: Tensor, bank: Tensor, entries: Tensor, drawn: Tensor | None, normalizer: Tensor) -> Tensor:
        """Returns the loss of embeddings (N, D), whose positives are the entries (N, P) of a bank. drawn: (N, K), the
        entries of their negatives; None for all others of the bank."""
        if drawn is None:
            return instance_discrimination(z, bank, entries[:, 0], self.temperature)
        if self.nce:
            return nce(z, bank[entries], bank, self.temperature, len(bank), normalizer, drawn)
        return info_nce(z, bank[entries], bank, self.temperature, drawn)

    def normalizer(self, net: Networks, z: Tensor, bank: Tensor, drawn: Tensor | None, clock: Clock) -> Tensor:
        """Returns Z of `nce`, which all directions share: that of the first batch in its first direction, or of the
        next batch if the first step was refused."""
        if not self.nce or drawn is None or clock.epoch > 0:
            return net.partition
        first = len(bank) * mean_exponential(z, bank, self.temperature, drawn)
        return torch.where(net.partition > 0, net.partition, first)

    def agrees(self, clock: Clock) -> bool:
        """Returns True if samples have positives by consensus in this epoch."""
        return self.positives is not None and clock.epoch >= self.first_epoch(clock)

    def finds_consensus(self, clock: Clock) -> bool:
        """Returns True if the consensus is to be found after this step, for the next epochs."""
        since = clock.epoch + 1 - self.first_epoch(clock)
        last_step = (clock.step + 1) % clock.steps_per_epoch == 0
        return self.positives is not None and last_step and since >= 0 and since % self.every == 0

    def first_epoch(self, clock: Clock) -> int:
        """Returns the first epoch that has a consensus, 1 at least, since the banks are random before the first one."""
        return max(1, ceil(self.start * (clock.steps // clock.steps_per_epoch)))

    def figures(self, net: Networks, z: Mapping[str, Tensor], index: Tensor) -> dict[str, Tensor]:
        """Returns the figures that are logged beside the terms of the loss."""
        image, audio = z["image"], z["audio"]
        others = net.banks["audio"].embeddings
        return {
            "accuracy": matched(image, audio),
            "modality_gap": modality_gap(image, audio),
            "hardest_tenth": hardest_tenth(image, others, self.temperature, excluded=index),
        }

    def trivial(self, clock: Clock, samples: int) -> float:
        """Returns the loss if all embeddings are equal."""
        of = chance if self.nce else lambda negatives: log(1 + negatives)
        values = [log(samples) if self.negatives is None else of(self.negatives)] * len(COMPARISONS[self.comparison])
        values += [of(self.within_negatives)] if self.agrees(clock) else []
        return sum(values) / len(values)

    def encoders(self, net: Networks) -> Mapping[str, nn.Module]:
        return dict(net.encoders.items())

    def embedders(self, net: Networks) -> Mapping[str, nn.Sequential]:
        """Returns for each signal its encoder and projector in one."""
        return {signal: nn.Sequential(net.encoders[signal], net.projectors[signal]) for signal in self.signals}
