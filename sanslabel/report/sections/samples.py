"""The samples of a generative method, and the energies that it gives to data and samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isfinite

import torch
from torch import Tensor

from sanslabel.errors import BadInput, SanslabelError
from sanslabel.generation.model import Model, open_model
from sanslabel.generation.samples import sampled_images
from sanslabel.methods.abilities import HasEnergy, Samples
from sanslabel.report import charts, pictures
from sanslabel.report.colors import GRAY
from sanslabel.report.markup import note, strips
from sanslabel.report.page import Page
from sanslabel.report.snapshot import Snapshot

SHOWN = 16
"""samples on the page"""
WITHOUT_DATA, MOST = 32, 1000
"""samples that are measured if there are no data; the most samples, and the most images of data, if there are data"""


def samples(run: Snapshot, page: Page, seed: int, log: Callable[[str], None]) -> Iterator[str]:
    """Yields samples, and a histogram of energies, for a generative method with a checkpoint."""
    try:
        model = open_model(run.folder, device="cpu")
    except BadInput:
        return
    method = model.method
    if not isinstance(method, Samples | HasEnergy):
        return
    log(f"Drawing samples of {run.name}")
    data = generated = None
    try:
        data = _data(model)
    except SanslabelError as error:
        yield note(f"Energies of data are missing: {error}")
    if isinstance(method, Samples):
        generated = sampled_images(model, WITHOUT_DATA if data is None else min(MOST, len(data)), seed)
        yield strips({"samples": pictures.row(generated[:SHOWN])})
    if isinstance(method, HasEnergy) and (energies := _energies_of_sets(model, {"data": data, "samples": generated})):
        yield page.grid([charts.histogram(energies, method.unit, {"data": GRAY, "samples": run.color})])


def _data(model: Model) -> Tensor:
    """Returns images (n, C, H, W) in the size of the model's images, from the test split if there is one."""
    source = model.source()
    few = source.subset(torch.arange(min(MOST, len(source))))
    pixels, _ = model.measure({"": lambda x: x.flatten(1)}, few)
    return pixels[""].view(-1, model.channels, model.size, model.size)


def _energies_of_sets(model: Model, sets: dict[str, Tensor | None]) -> dict[str, list[float]]:
    """Returns the finite energies of each set of images."""
    method, energies = model.require(HasEnergy), {}
    for name, images in sets.items():
        if images is not None:
            values = model.apply(lambda x: method.energy_of(model.net, x), images).tolist()
            energies[name] = [value for value in values if isfinite(value)]
    return {name: values for name, values in energies.items() if values}
