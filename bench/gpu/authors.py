"""f. The authors' loop beside this project's: SimCLR, Barlow Twins and VICReg, on the same views of Fashion-MNIST.

Both start from the same weights, a ResNet-18 and the paper's projector. They take the same batches and the same draws
of views, with the paper's recipe for five epochs, in the precision of `sanslabel train`. The authors' loops are written
anew in plain torch: their losses, their schedule, and LARS. The first difference is the largest one of the losses in
ten steps in float32, before rounding has grown. Seconds of a step are medians.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import fields, replace
from math import cos, pi
from statistics import fmean, median
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import batch_norm, cross_entropy, mse_loss, normalize

from bench.gpu.exactness import without_tensor_float
from bench.gpu.learning import SIDE, accuracies, color_images
from bench.gpu.place import Place
from bench.interleaving import finish
from bench.running import prepared
from sanslabel import methods
from sanslabel.batch import Batch, Clock
from sanslabel.device import autocast, fast_precision
from sanslabel.engine import optimize
from sanslabel.evaluation import represent, scores_of_features
from sanslabel.evaluation.features import Division, Features
from sanslabel.evaluation.protocols.knn import KNN
from sanslabel.methods.method import Networks
from sanslabel.sources import open_source
from sanslabel.training.determinism import reproducible

EPOCHS, BATCH, WARMUP, FIRST = 5, 256, 1, 10
"""epochs, images in a batch, epochs of warm-up, and steps in float32"""
Embed = Callable[[Tensor], Tensor]
T = TypeVar("T")


def simclr(embed: Embed, first: Tensor, second: Tensor) -> Tensor:
    """Returns NT-Xent at temperature 0.1: both views pass in one batch, and all other views are negatives."""
    z = normalize(embed(torch.cat([first, second])), dim=1)
    similar = (z @ z.T / 0.1).fill_diagonal_(-torch.inf)
    return cross_entropy(similar, torch.arange(len(z), device=z.device).roll(len(first)))


def barlow_twins(embed: Embed, first: Tensor, second: Tensor) -> Tensor:
    """Returns how far the correlation of all dimensions is from the identity, with λ = 0.0051."""
    a, b = (batch_norm(embed(view), None, None, training=True) for view in (first, second))
    c = a.T @ b / len(a)
    diagonal = c.diagonal()
    return (diagonal - 1).square().sum() + 0.0051 * (c.square().sum() - diagonal.square().sum())


def vicreg(embed: Embed, first: Tensor, second: Tensor) -> Tensor:
    """Returns 25 times the mean squared difference, 25 times the hinge on deviations, and the covariances."""
    a, b = embed(first), embed(second)
    loss = 25 * mse_loss(a, b)
    for z in (a, b):
        loss = loss + 25 * (1 - (z.var(dim=0) + 1e-4).sqrt()).relu().mean() / 2
        c = (z - z.mean(dim=0)).T @ (z - z.mean(dim=0)) / (len(z) - 1)
        loss = loss + (c.square().sum() - c.diagonal().square().sum()) / z.shape[1]
    return loss


class Loop(NamedTuple):
    """The settings of the authors' training script."""

    loss: Callable[[Embed, Tensor, Tensor], Tensor]
    lr: float
    """for a batch of 256"""
    lr_of_vectors: float
    """of biases and norms, for a batch of 256"""
    final: float
    """the factor of the learning rate at the end of the cosine"""
    gradient: float = 1.0
    """the factor of the loss's gradient: SimCLR's code adds the means of both views, and that of Barlow Twins leaves a
    sixteenth on the authors' 16 GPUs"""
    lr_in_momentum: bool = False
    """True if the momentum sums steps, not gradients"""


LOOPS = {
    "simclr": Loop(simclr, 0.3, 0.3, 0.0, gradient=2.0, lr_in_momentum=True),
    "barlow_twins": Loop(barlow_twins, 0.2, 0.0048, 0.001, gradient=1 / 16),
    "vicreg": Loop(vicreg, 0.2, 0.2, 0.001),
}


class Authors:
    """A loop of the authors around networks, called once for each batch."""

    def __init__(self, loop: Loop, net: Networks, method: Any, batch: int, precision: torch.dtype) -> None:
        self.loop, self.net, self.method, self.scale, self.precision = loop, net, method, batch / 256, precision
        self.weights = [w for w in net.parameters() if w.requires_grad]
        self.momenta = [torch.zeros_like(w) for w in self.weights]

    def __call__(self, batch: Batch, clock: Clock) -> Tensor:
        """Takes a step, and returns its loss."""
        first, second = (self.method.view(batch._replace(dtype=self.precision), i) for i in (0, 1))
        loss = self.loop.loss(self._embed, first, second)
        gradients = torch.autograd.grad(loss, self.weights)
        warmup = WARMUP * clock.steps_per_epoch
        if clock.step < warmup:
            factor = (clock.step + 1) / warmup
        else:
            progress = (clock.step - warmup) / (clock.steps - warmup)
            factor = self.loop.final + (1 - self.loop.final) * (1 + cos(pi * progress)) / 2
        self._lars(gradients, factor * self.scale)
        return loss.detach()

    def _embed(self, view: Tensor) -> Tensor:
        with autocast(view.device, self.precision):
            z = self.net.projector(self.net.encoder(view))
        return z.float()

    @torch.no_grad()
    def _lars(self, gradients: tuple[Tensor, ...], factor: float) -> None:
        for w, momentum, g in zip(self.weights, self.momenta, gradients, strict=True):
            lr, g = factor * self.loop.lr_of_vectors, self.loop.gradient * g
            if w.ndim > 1:
                lr, g = factor * self.loop.lr, g + 1e-6 * w
                g = g * torch.where((w.norm() > 0) & (g.norm() > 0), 1e-3 * w.norm() / g.norm(), 1.0)
            before, after = (lr, 1.0) if self.loop.lr_in_momentum else (1.0, lr)
            momentum.mul_(0.9).add_(before * g)
            w.sub_(after * momentum)


class Trained(NamedTuple):
    """Both trainings: networks, losses of each step, and seconds of each step, by the side that they are of."""

    nets: dict[str, Networks]
    losses: dict[str, list[float]]
    seconds: dict[str, list[float]]


def side_by_side(name: str, place: Place) -> dict[str, Any]:
    """Returns the losses of both by epoch, their difference in the first steps, the seconds of a step, and the accuracy
    of neighbors in %."""
    with without_tensor_float():
        first = trained(name, place, torch.float32, FIRST).losses
    full = trained(name, place, getattr(torch, fast_precision(place.device)))
    per_epoch = len(full.losses["here"]) // EPOCHS
    return {
        "steps": len(full.losses["here"]),
        "first_difference": max(abs(a - b) / abs(b) for a, b in zip(first["here"], first["authors"], strict=True)),
        "losses": {side: _by_epoch(values, per_epoch) for side, values in full.losses.items()},
        "step_seconds": {side: median(values) for side, values in full.seconds.items()},
        "scores": neighbors(full.nets, place),
    }


def trained(name: str, place: Place, precision: torch.dtype, steps: int | None = None) -> Trained:
    """Trains both, by default for all epochs."""
    chosen, batch = methods.method_class(name), 16 if place.toy else BATCH
    encoder = {"name": "dcgan", "filters": 8} if place.toy else {"name": "resnet18", "zero_residual": True}
    narrow = {f.name: 16 for f in fields(chosen) if f.name in {"hidden", "width"}} if place.toy else {}
    train, recipe = open_source(color_images(place), "train"), replace(chosen.recipe, batch=batch, warmup=WARMUP)
    method, options = chosen(**narrow), {"size": SIDE, "batch": batch, "device": place.device, "epochs": EPOCHS}
    ours = prepared(method, recipe, train, encoder, **options)._replace(precision=precision)
    theirs = deepcopy(ours.net)
    step = Authors(LOOPS[name], theirs, ours.method, batch, precision)
    stream, mirror = itertools.tee(ours.batches)
    records = itertools.islice(optimize(*ours._replace(batches=stream)), steps)
    result = Trained({"here": ours.net, "authors": theirs}, {"here": [], "authors": []}, {"here": [], "authors": []})
    with reproducible(place.device):
        for record in _timed(records, result.seconds["here"], place.device):
            (there,) = _timed((step(b, c) for c, b in [next(mirror)]), result.seconds["authors"], place.device)
            result.losses["here"].append(record.objectives[0].loss.item())
            result.losses["authors"].append(there.item())
    return result


def neighbors(nets: dict[str, Networks], place: Place) -> dict[str, dict[str, float]]:
    """Returns the accuracy of neighbors of each network's encoder, in %."""
    train, test = (open_source(color_images(place), split) for split in ("train", "test"))
    encoders = {side: net.encoder for side, net in nets.items()}
    (on_train, index), (on_test, _) = (
        represent(encoders, source, reads=train.image, device=place.device) for source in (train, test)
    )
    home = on_train["here"].device
    division = Division(train.labels[index].to(home), test.labels.to(home), len(train.classes), "test split")
    features = {side: Features(on_train[side], on_test[side]) for side in encoders}
    return accuracies(scores_of_features(features, division, protocols=(KNN(draws=1),)))


def _timed(steps: Iterator[T], seconds: list[float], device: torch.device) -> Iterator[T]:
    """Yields the steps, and adds the seconds that the device took for each to the list."""
    while True:
        began = time.perf_counter()
        try:
            step = next(steps)
        except StopIteration:
            return
        finish(device)
        seconds.append(time.perf_counter() - began)
        yield step


def _by_epoch(values: list[float], steps: int) -> list[float]:
    return [round(fmean(values[begin : begin + steps]), 5) for begin in range(0, len(values), steps)]
