"""A run's method with all of its networks, not only the exported encoders."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sanslabel.device import chosen_device, deterministic_kernels
from sanslabel.evaluation import represent
from sanslabel.inputs import ImageSpec
from sanslabel.methods.abilities import A, require
from sanslabel.methods.method import Method, Networks
from sanslabel.run_config import Plan
from sanslabel.run_folder import RunFolder
from sanslabel.sources import AnyData, Source, Split

BATCH = 256
"""images that are made or read at a time"""


@dataclass(frozen=True)
class Model:
    """A method with its networks, in evaluation mode on a device, and the run that they come from."""

    run: RunFolder
    method: Method
    net: Networks
    device: torch.device

    @property
    def plan(self) -> Plan:
        """Returns the configuration of the run."""
        return self.run.known_plan

    @property
    def size(self) -> int:
        """Returns the side of the model's images in pixels."""
        return self.plan.image_size

    @property
    def channels(self) -> int:
        """Returns the number of channels of the model's images."""
        return self.plan.encoder["channels"]

    def require(self, ability: type[A]) -> A:
        """Returns the method if it has the ability. Raises BadInput with the names of the methods that have it."""
        return require(self.method, ability)

    def apply(self, function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
        """Returns the values of a function of keys, codes or images, computed in batches. They are float32 on the
        CPU."""
        with self.computing():
            return torch.cat([function(batch).float().cpu() for batch in values.to(self.device).split(BATCH)])

    def source(self, data: AnyData | None = None, split: Split | None = None) -> Source:
        """Returns images of the size and channels that the model makes.

        data: by default the data of the run. split: by default the test split if there is one.
        """
        return self.run.source(split, data)

    def measure(
        self, functions: Mapping[str, Callable[[Tensor], Tensor]], source: Source
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Returns the values of functions of a source's images, by name, (n, D) each on the CPU. The second result is
        the index (n,) of the images that could be read."""
        reads = ImageSpec(channels=self.channels, height=self.size, width=self.size)
        options = {"reads": reads, "device": self.device, "batch": BATCH, "workers": self.plan.workers}
        with self.computing():
            values, index = represent(functions, source, **options)
        return {name: value.cpu() for name, value in values.items()}, index

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Context manager for computation without gradients and always in float32. On one device, it gives the same
        bits each time."""
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False), deterministic_kernels():
            yield


def open_model(run: str | Path | RunFolder, *abilities: type, device: str | None = None) -> Model:
    """Returns the model in the newest checkpoint of a run folder.

    abilities: what the method must be able to do. Raises BadInput if it cannot, or if there is no checkpoint.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder.open(run)
    method = folder.method()
    for ability in abilities:
        require(method, ability)
    where = chosen_device(device)
    method, net = folder.networks(where)
    return Model(folder, method, net, where)
