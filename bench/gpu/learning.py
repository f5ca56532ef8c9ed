"""e. What methods learn on a GPU: Fashion-MNIST's 60,000 images, in color at 32 pixels, without labels.

Images are padded by two pixels on each side, and their one channel is repeated. Each method trains a ResNet-18 or a
ViT-Tiny with its small recipe for 20 epochs. The encoder of the last step is measured by neighbors and a linear probe,
beside raw pixels and its own start. Both are fitted on all training images, and measured on the 10,000 test images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import sanslabel
from bench.gpu.place import Place
from bench.running import without_estimates
from sanslabel import methods
from sanslabel.evaluation.protocols.knn import KNN
from sanslabel.evaluation.protocols.linear import Linear
from sanslabel.scores import Score
from sanslabel.sources import Request, open_source

EPOCHS, SIDE = 20, 32
CONVOLUTIONS = ("simclr", "vicreg", "moco", "barlow_twins", "byol", "swav", "dino", "simsiam", "npid", "pirl")
"""methods that train a ResNet-18"""
TRANSFORMERS = ("mae", "ijepa", "data2vec")
"""methods that train a ViT-Tiny"""
TOY = {"train": 48, "test": 24}
"""images of a rehearsal"""


def learned(method: str, place: Place) -> dict[str, Any]:
    """Returns the loss of each epoch, the accuracies in % by representation and protocol, and the seconds of
    training."""
    recipe = methods.method_class(method).small
    encoder: str | dict[str, Any] = "vit_tiny" if method in TRANSFORMERS else "resnet18"
    settings: dict[str, Any] = {"epochs": EPOCHS, "batch": recipe.batch}
    if place.toy:
        encoder = "vit_micro" if method in TRANSFORMERS else {"name": "dcgan", "filters": 8}
        settings = {"epochs": 2, "batch": 16}
    with TemporaryDirectory() as folder:
        settings |= {"image_size": SIDE, "seed": 0, "workers": 0, "device": place.kind, "out": Path(folder) / "run"}
        with without_estimates():
            run = sanslabel.train(color_images(place), method=method, encoder=encoder, **settings)
        first, *others = run.exported()
        protocols = (KNN(draws=1), Linear(draws=1))
        scores = list(sanslabel.evaluate(run, protocols=protocols, network=first, device=place.kind))
        for network in others:
            scores += sanslabel.evaluate(run, protocols=protocols, network=network, baselines=False, device=place.kind)
        lines = run.lines()
    return {
        "encoder": encoder if isinstance(encoder, str) else encoder["name"],
        "epochs": settings["epochs"],
        "batch": settings["batch"],
        "training_seconds": run.seconds,
        "losses": by_epoch(lines),
        "effective_rank": lines[-1].get("effective_rank"),
        "scores": accuracies(scores),
    }


def by_epoch(lines: Sequence[Mapping[str, Any]]) -> list[float]:
    """Returns the mean loss of the lines of each epoch."""
    losses: dict[int, list[float]] = {}
    for line in lines:
        if line.get("loss") is not None:
            losses.setdefault(line["epoch"], []).append(line["loss"])
    return [round(fmean(values), 5) for values in losses.values()]


def accuracies(scores: Sequence[Score]) -> dict[str, dict[str, float]]:
    """Returns the accuracies with all labels, by representation and protocol."""
    table: dict[str, dict[str, float]] = {}
    for score in scores:
        if score.labels_per_class is None:
            table.setdefault(score.representation, {})[score.protocol] = round(score.value, 2)
    return table


def color_images(place: Place) -> str:
    """Returns the file of Fashion-MNIST as color images of 32 pixels. It is made once, and serves all items."""
    file = Path(gettempdir()) / "fashion-in-color.npz"
    if not file.exists():
        arrays = {}
        for prefix, split in (("", "train"), ("test_", "test")):
            source = open_source("fashion" if place.toy else str(place.fashion), split)
            if place.toy:
                source = source.subset(torch.arange(TOY[split]))
            pixels = source.load(Request(torch.arange(len(source)))).images.pixels
            arrays[f"{prefix}images"] = F.pad(pixels, (2, 2, 2, 2)).expand(-1, 3, -1, -1).numpy()
            arrays[f"{prefix}labels"] = source.labels.numpy()
        new = file.with_name("fashion-in-color.part.npz")
        np.savez(new, **arrays)
        new.replace(file)
    return str(file)
