from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sanslabel.encoders import Encoder
from sanslabel.methods.method import Objective
from sanslabel.sources import open_source
from sanslabel.sources.loader import batches
from sanslabel.training.engine import optimize, players_of


class Perceptron(Encoder):
    """Three layers on 8x8 pixels, for demonstrations that train: a sixth of the time that `conv` takes."""

    def __init__(self) -> None:
        super().__init__({"name": "perceptron", "channels": 1, "image_size": 8}, 128, None)
        widths = [64, 128, 128, 128]
        parts = [(nn.Linear(i, o), nn.BatchNorm1d(o), nn.ReLU()) for i, o in zip(widths, widths[1:], strict=False)]
        self.layers = nn.Sequential(*[layer for part in parts for layer in part])

    def stages(self, images: Tensor) -> list[Tensor]:
        return [self.layers(self.scaled(images).flatten(1))]

    def pooled(self, stage: Tensor) -> Tensor:
        return stage


@pytest.fixture(scope="session")
def trained() -> Callable[..., list[Objective]]:
    """The objectives of a run of a perceptron on 1024 digits, in batches of 128."""
    source = open_source("digits", "train").subset(torch.arange(1024))

    def train(method, recipe, epochs: int, seed: int = 0, change=lambda net: None) -> list[Objective]:
        """change: applied to the networks before training."""
        torch.manual_seed(seed)
        net = method.networks(Perceptron(), source.facts(8)).train()
        change(net)
        stream = batches(source, 128, seed=seed, epochs=epochs, device=torch.device("cpu"))
        return [o for r in optimize(method, net, players_of(net, recipe, 128), stream) for o in r.objectives]

    return train


@pytest.fixture(scope="session")
def first_batches() -> Callable[..., list]:
    """(clock, batch) of the first epochs of a run on 64 digits, two steps each."""
    source = open_source("digits", "train").subset(torch.arange(64))
    return lambda epochs=1: list(batches(source, 32, seed=1, epochs=epochs, device=torch.device("cpu")))
