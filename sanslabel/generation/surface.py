"""A picture of the energy over a plane, for a model that was trained on points in the plane."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from sanslabel.checkpoint import replacing
from sanslabel.errors import BadInput
from sanslabel.generation.model import open_model
from sanslabel.generation.picture import Picture, png_path
from sanslabel.generation.samples import sampled_images
from sanslabel.methods.abilities import Encodes, HasEnergy, Samples
from sanslabel.sources import Request

FINE, COARSE = 200, 22
"""points along a side of the plane, for the surface and for the arrows"""
POINTS = 800
"""number of data points, and of samples, that are drawn"""


def surface(run: str | Path, *, out: str | Path | None = None, seed: int = 0, device: str | None = None) -> Picture:
    """Writes a picture of the energy over the plane, by default RUN/energy.png.

    It shows data, samples, and arrows from points to their reconstructions, as far as the method has these. Raises
    BadInput if the run was not trained on points, or if its method has no energy, DiskError.
    """
    path = Path(out) if out is not None else Path(run) / "energy.png"
    check_drawable(path)
    model = open_model(run, HasEnergy, device=device)
    method, net = model.require(HasEnergy), model.net
    if (model.channels, model.size) != (2, 1):
        raise BadInput(f"{run}: was not trained on points in a plane; train it on spiral, moons or ring.")
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    plane, starts = _lattice(FINE), _lattice(COARSE)
    energy = model.apply(lambda points: method.energy_of(net, points), plane).double()
    figure = Figure(figsize=(7.2, 6), layout="constrained")
    axes = figure.subplots()
    side = torch.linspace(0, 1, FINE)
    low, high = energy.min(), energy.quantile(0.95)  # otherwise the corners would take most of the colors
    high = torch.maximum(high, low + 1e-6 * low.abs() + 1e-12)  # a collapsed energy is flat
    levels = low + (high - low) * torch.linspace(0, 1, 25) ** 3
    colors = PowerNorm(1 / 3, vmin=low.item(), vmax=high.item())
    heights = energy.clamp(max=high).view(FINE, FINE)
    filled = axes.contourf(side, side, heights, levels=levels, norm=colors, cmap="viridis", extend="max")
    figure.colorbar(filled, ax=axes, label=f"energy ({method.unit or 'without unit'})")
    data = model.source(split="train").load(Request(torch.arange(POINTS))).images.pixels[:, :, 0, 0]
    axes.scatter(*data.T, s=4, color="white", alpha=0.6, linewidths=0, label="data")
    if isinstance(method, Samples):
        points = sampled_images(model, POINTS, seed)[:, :, 0, 0]
        axes.scatter(*points.T, s=4, color="tab:red", alpha=0.6, linewidths=0, label="samples")
    if isinstance(method, Encodes):
        ends = model.apply(lambda points: method.decode(net, method.encode(net, points)), starts)
        start, way = starts[:, :, 0, 0], (ends - starts)[:, :, 0, 0]
        axes.quiver(*start.T, *way.T, angles="xy", scale_units="xy", scale=1, width=0.002, color="black", alpha=0.7)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title=f"{model.plan.method} on {model.plan.data_name}")
    axes.legend(loc="upper right", markerscale=3, facecolor="0.6", framealpha=0.9)
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=120, metadata={"Software": None})
    return Picture(path)


def check_drawable(out: str | Path) -> None:
    """Raises BadInput if no picture can be drawn: the file does not end in .png, or matplotlib is missing."""
    png_path(out)
    if find_spec("matplotlib") is None:
        raise BadInput('The picture needs matplotlib; pip install "sanslabel[plot]".')


def _lattice(count: int) -> Tensor:
    """Returns a lattice of points over the unit square, row by row from below: (count², 2, 1, 1)."""
    side = torch.linspace(0, 1, count)
    y, x = torch.meshgrid(side, side, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)[..., None, None]
