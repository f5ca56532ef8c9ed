"""The samples of a generative method, and the energies that it gives to data and samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isfinite

import torch
from torch import Tensor

from sanslabel.errors import BadInput, SanslabelError
from sanslabel.generation.samples import drawn
from sanslabel.generation.trained import Trained, trained
from sanslabel.report import charts, pictures
from sanslabel.report.page import Page, note, strips
from sanslabel.report.snapshot import Snapshot

SHOWN = 16
"""samples on the page"""
WITHOUT_DATA, MOST = 32, 1000
"""samples whose energies are measured without data to compare with, and images of either kind with data"""


def samples(run: Snapshot, page: Page, seed: int, log: Callable[[str], None]) -> Iterator[str]:
    """Yields samples, and a histogram of energies, for a generative method with a checkpoint."""
    try:
        model = trained(run.folder, "cpu")
    except BadInput:
        return
    log(f"Drawing samples of {run.name}")
    data = None
    try:
        data = _data(model)
    except SanslabelError as error:
        yield note(f"Without data: {error}")
    generated = _generated(model, WITHOUT_DATA if data is None else min(MOST, len(data)), seed)
    if generated is not None:
        yield strips({"samples": pictures.row(generated[:SHOWN])})
    if energies := _energies(model, {"data": data, "samples": generated}):
        yield page.grid([charts.histogram(energies, model.method.unit)])


def _data(model: Trained) -> Tensor:
    """Returns images of the size that the model makes, (n, C, H, W), of the test split if there is one."""
    source = model.source(split=None)
    few = source.subset(torch.arange(min(MOST, len(source))))
    pixels, _ = model.told({"": lambda x: x.flatten(1)}, few)
    return pixels[""].view(-1, model.channels, model.size, model.size)


def _generated(model: Trained, count: int, seed: int) -> Tensor | None:
    """Returns samples, or None if the method makes none."""
    try:
        return drawn(model, count, seed)
    except BadInput:
        return None


def _energies(model: Trained, sets: dict[str, Tensor | None]) -> dict[str, list[float]]:
    """Returns the finite energies of each set of images; none if the method gives images no energy."""
    energies = {}
    try:
        for name, images in sets.items():
            if images is not None:
                values = model.made(lambda x: model.method.energies(model.net, x), images).tolist()
                energies[name] = [value for value in values if isfinite(value)]
    except BadInput:
        return {}
    return {name: values for name, values in energies.items() if values}
