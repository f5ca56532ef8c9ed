"""A run's whole networks, of which the exported encoders are a part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from sanslabel.device import chosen_device, deterministic_kernels
from sanslabel.errors import BadInput
from sanslabel.evaluation import represent
from sanslabel.inputs import ImageSpec
from sanslabel.methods.method import Method, Networks
from sanslabel.run_folder import RunFolder
from sanslabel.sources import Source, open_source, splits

BATCH = 256
"""images that are made or read at a time"""


@dataclass(frozen=True)
class Trained:
    """A method with its networks in evaluation mode, and what the run's run.json says."""

    run: Path
    method: Method
    net: Networks
    said: dict[str, Any]
    device: torch.device

    @property
    def size(self) -> int:
        """Side of its images in pixels."""
        return self.said["image_size"]

    @property
    def reads(self) -> ImageSpec:
        """Returns the shape of the images that it makes."""
        return ImageSpec(channels=self.channels, height=self.size, width=self.size)

    @property
    def channels(self) -> int:
        return self.said["encoder"]["channels"]

    def made(self, make: Callable[[Tensor], Tensor], key: Tensor) -> Tensor:
        """`make` of keys, or of other rows, part by part -> on the CPU, float32."""
        with self.computing():
            return torch.cat([make(part).float().cpu() for part in key.to(self.device).split(BATCH)])

    def source(self, data: str | Path | None = None, split: Literal["train", "test"] | None = None) -> Source:
        """Of `data`, by default what the model was trained on, images like those that it makes; by default the test
        split where there is one."""
        chosen = self.said["data"] if data is None else data
        split = split or ("test" if "test" in splits(chosen) else "train")
        return open_source(chosen, split, image_size=self.size, channels=self.channels)

    def told(
        self, functions: Mapping[str, Callable[[Tensor], Tensor]], source: Source
    ) -> tuple[dict[str, Tensor], Tensor]:
        """What functions of images say of a source's, (n, D) each on the CPU, and the rows (n,) that could be read."""
        options = {"reads": self.reads, "device": self.device, "batch": BATCH, "workers": self.said["workers"]}
        with self.computing():
            found, rows = represent(functions, source, **options)
        return {name: values.cpu() for name, values in found.items()}, rows

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Without gradients, in float32 whatever it was trained in, and to the same bits each time on one device."""
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False), deterministic_kernels():
            yield


def trained(run: str | Path | RunFolder, device: str | None = None) -> Trained:
    """Returns the generative model in the newest checkpoint of a run.

    Raises BadInput if there is no checkpoint, or if the method is not generative or not installed.
    """
    folder, chosen = run if isinstance(run, RunFolder) else RunFolder.open(run), chosen_device(device)
    if (method := folder.method()).family != "generative":
        raise BadInput(
            f"{folder.path}: {type(method).__name__} is no generative method; `sanslabel methods` lists those."
        )
    method, net = folder.networks(chosen)
    return Trained(folder.path, method, net, asdict(folder.known_plan), chosen)
