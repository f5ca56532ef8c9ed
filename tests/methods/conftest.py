from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sanslabel import encoders
from sanslabel.batch import Facts
from sanslabel.encoders import Encoder
from sanslabel.methods.method import Objective
from sanslabel.optimizers import AdamW
from sanslabel.recipe import Recipe
from sanslabel.sources import Arrays, open_source
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


@pytest.fixture(scope="session")
def trained_toy() -> Callable[..., nn.Module]:
    """Networks after 400 steps on points (x, 0) with x in [-0.8, 0.8], as images (2, 1, 1) in [0, 1]."""

    def train(method) -> nn.Module:
        torch.manual_seed(0)
        encoder = encoders.build("mlp", channels=2, image_size=1, hidden=(64, 64))
        net = method.networks(encoder, Facts(4096, 2, 1, 1, 0)).train()
        across = torch.linspace(-0.8, 0.8, 4096)
        images = ((torch.stack([across, torch.zeros(4096)], dim=1) + 1) / 2)[..., None, None]
        source = Arrays(
            name="line",
            split="train",
            images=images,
            labels=torch.full((4096,), -1),
            rows=torch.arange(4096),
            classes=(),
            channels=2,
            height=1,
            width=1,
        )
        stream = batches(source, 256, seed=0, epochs=25, device=torch.device("cpu"))
        recipe = Recipe(optimizer=AdamW(rate=2e-3), epochs=25)
        for _ in optimize(method, net, players_of(net, recipe, 256), stream):
            pass
        return net.eval()

    return train
