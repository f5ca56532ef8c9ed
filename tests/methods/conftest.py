from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sanslabel import encoders
from sanslabel.batch import Facts, Images
from sanslabel.encoders import Encoder
from sanslabel.engine import optimize, players_of
from sanslabel.inputs import ImageSpec
from sanslabel.methods.method import Objective
from sanslabel.optimizers import AdamW
from sanslabel.recipe import Recipe
from sanslabel.sources import Arrays, open_source
from sanslabel.sources.loader import batches


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
        net = method.networks(encoder, Facts.of_images(4096, 2, 1, 1, 0)).train()
        across = torch.linspace(-0.8, 0.8, 4096)
        images = ((torch.stack([across, torch.zeros(4096)], dim=1) + 1) / 2)[..., None, None]
        source = Arrays(
            name="line",
            split="train",
            signals={"image": Images(images)},
            labels=torch.full((4096,), -1),
            file_row=torch.arange(4096),
            classes=(),
            inputs={"image": ImageSpec(channels=2, height=1, width=1)},
        )
        stream = batches(source, 256, seed=0, epochs=25, device=torch.device("cpu"))
        recipe = Recipe(optimizer=AdamW(lr=2e-3), epochs=25)
        for _ in optimize(method, net, players_of(net, recipe, 256), stream):
            pass
        return net.eval()

    return train


WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal", "bincount"}
"""what gives a number to the host, or a tensor whose shape depends on values"""
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
"""what waits where an index is a mask, whose rows must be counted"""


def masks(index: Any) -> bool:
    return any(isinstance(part, Tensor) and part.dtype == torch.bool for part in index)


HANDING_OVER = {Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.new_tensor}
"""from the device, or to it from memory that the system may move"""


class Waits(TorchDispatchMode):
    """Sees every operation, follows what comes of tensors that are meant to be on a device, and finds those for which
    the host must wait until it knows a value of theirs."""

    def __init__(self, *followed: Tensor) -> None:
        super().__init__()
        self.found: list[str] = []
        self.handed_over = HandedOver(self)
        self.on_device = WeakValueDictionary[int, Tensor]()
        self.follow(*followed)

    def follow(self, *tensors: Tensor) -> None:
        for tensor in tensors:
            self.on_device[id(tensor)] = tensor

    def __enter__(self):
        self.handed_over.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self.handed_over.__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        touched = any(id(leaf) in self.on_device for leaf in leaves)
        name = func.overloadpacket.__name__
        if touched and (name in WAITING or (name in INDEXING and masks(args[1]))):
            self.found.append(name)
        found = func(*args, **(kwargs or {}))
        if touched:
            self.follow(*(leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor)))
        return found


class HandedOver(TorchFunctionMode):
    """Sees what reads the memory of tensors, which is no operation on a CPU."""

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in HANDING_OVER and id(args[0]) in self.waits.on_device:
            self.waits.found.append(func.__name__)
        if func in {Tensor.__getitem__, Tensor.__setitem__} and id(args[0]) in self.waits.on_device:
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(part, list) for part in index):  # which must arrive there first
                self.waits.found.append("a list as index")
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="session")
def waits() -> Callable[..., Waits]:
    """`with waits(*on_device) as seen:`; `seen.found` has the names of operations that waited."""
    return Waits
