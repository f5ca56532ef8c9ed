"""The energy of a plane: what a model that was trained on points makes of all others."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from sanslabel.checkpoint import replacing
from sanslabel.errors import BadInput
from sanslabel.generation.grid import png
from sanslabel.generation.samples import drawn
from sanslabel.generation.trained import Trained, trained
from sanslabel.sources import Request

FINE, COARSE = 200, 22
"""points along a side, of the surface and of the arrows"""
SHOWN = 800
"""points of data, and samples"""


def surface(run: str | Path, *, out: str | Path | None = None, seed: int = 0, device: str | None = None) -> Path:
    """A picture of the energy over the plane, with data, samples, and arrows from points to their reconstructions where
    the method has these; by default RUN/energy.png. BadInput for a run that was not trained on points."""
    path = Path(out) if out is not None else Path(run) / "energy.png"
    check(path)
    model = trained(run, device)
    if (model.channels, model.size) != (2, 1):
        raise BadInput(f"{run}: was not trained on points in a plane; train it on spiral, moons or ring.")
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    data = model.source(split="train").load(Request(torch.arange(SHOWN))).images.pixels[:, :, 0, 0]
    plane, arrows = _plane(FINE), _plane(COARSE)
    energy = model.made(lambda points: model.method.energies(model.net, points), plane)
    figure = Figure(figsize=(7.2, 6), layout="constrained")
    axes = figure.subplots()
    side = torch.linspace(0, 1, FINE)
    energy = energy.double()
    low, high = energy.min(), energy.quantile(0.95)  # corners would take most of the colors, and valleys none
    high = torch.maximum(high, low + 1e-6 * low.abs() + 1e-12)  # a collapsed energy is flat
    levels = low + (high - low) * torch.linspace(0, 1, 25) ** 3
    colors = PowerNorm(1 / 3, vmin=low.item(), vmax=high.item())
    shown = energy.clamp(max=high).view(FINE, FINE)
    filled = axes.contourf(side, side, shown, levels=levels, norm=colors, cmap="viridis", extend="max")
    figure.colorbar(filled, ax=axes, label=f"energy ({model.method.unit or 'without unit'})")
    axes.scatter(*data.T, s=4, color="white", alpha=0.6, linewidths=0, label="data")
    if (made := _or_none(lambda: drawn(model, SHOWN, seed))) is not None:
        axes.scatter(*made[:, :, 0, 0].T, s=4, color="tab:red", alpha=0.6, linewidths=0, label="samples")
    if (moved := _or_none(lambda: _reconstructed(model, arrows))) is not None:
        start, way = arrows[:, :, 0, 0], (moved - arrows)[:, :, 0, 0]
        axes.quiver(*start.T, *way.T, angles="xy", scale_units="xy", scale=1, width=0.002, color="black", alpha=0.7)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title=f"{model.said['method']} on {model.said['data']}")
    axes.legend(loc="upper right", markerscale=3, facecolor="0.6", framealpha=0.9)
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=120, metadata={"Software": None})
    return path


def check(out: str | Path) -> None:
    """BadInput where no picture could be drawn: of another kind than PNG, or without matplotlib."""
    png(out)
    if find_spec("matplotlib") is None:
        raise BadInput('The picture needs matplotlib; pip install "sanslabel[plot]".')


def _plane(count: int) -> Tensor:
    """(count², 2, 1, 1): a lattice over the unit square, row by row from below."""
    side = torch.linspace(0, 1, count)
    y, x = torch.meshgrid(side, side, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)[..., None, None]


def _reconstructed(model: Trained, points: Tensor) -> Tensor:
    return model.made(lambda part: model.method.decoded(model.net, model.method.coded(model.net, part)), points)


def _or_none(make) -> Tensor | None:
    """None where the method does not make that."""
    try:
        return make()
    except BadInput:
        return None
