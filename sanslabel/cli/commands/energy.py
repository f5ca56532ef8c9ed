"""the energy of every image, low for images like the training data"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sanslabel.cli.flags import parse_flags
from sanslabel.errors import BadInput

GROUP = "Generate"
USAGE = "energy RUN [--data PATH] …"


@dataclass(frozen=True)
class Energy:
    """Write the energy of every image, or draw the energy over a plane."""

    run: str
    """the run folder; with --toy, a method"""
    data: str | None = None
    """images (their test split if there is one); by default those that the run was trained on"""
    against: str | None = None
    """foreign images, which should have higher energies; the AUROC measures how often they do"""
    complexity: bool = False
    """subtract the part of the energy that the compressed size of an image predicts"""
    toy: Literal["spiral", "moons", "ring"] | None = None
    """points in a plane to train the method on; its energy is then drawn over the plane, as a PNG"""
    out: str | None = None
    """a .csv or .parquet file; for a run on points, a .png of the plane; by default in the run folder"""
    seed: int = 0
    """seed of the training on points"""
    device: str | None = None
    """cpu, cuda, cuda:1, mps; by default cuda if there is one, else cpu"""


def run(arguments: list[str]) -> None:
    """Writes energies and prints a summary, or draws the energy of a plane and prints the picture's path."""
    flags = parse_flags(Energy, "energy", arguments, Energy.__doc__ or "")
    if flags.toy is not None:
        _draw_toy(flags)
    elif (flags.out or "").lower().endswith(".png"):
        from sanslabel.generation import surface

        print(surface(flags.run, out=flags.out, seed=flags.seed, device=flags.device).path)
    else:
        _write(flags)


def _draw_toy(flags: Any) -> None:
    if flags.data or flags.against or flags.complexity:
        raise BadInput("--toy draws a plane; leave out --data, --against and --complexity, which are for images.")
    from sanslabel.generation import surface
    from sanslabel.generation.surface import check_drawable
    from sanslabel.training.run import train

    check_drawable(flags.out or "energy.png")  # fails before the training if no picture can be drawn
    options = {"recipe": "toy", "precision": "float32", "seed": flags.seed, "device": flags.device}
    trained = train(flags.toy, method=flags.run, **options)
    print(surface(trained.path, out=flags.out, seed=flags.seed, device=flags.device).path)


def _write(flags: Any) -> None:
    from sanslabel.generation import energy_table

    options = {"against": flags.against, "complexity": flags.complexity, "out": flags.out, "device": flags.device}
    summary = energy_table(flags.run, flags.data, **options)
    print(f"{summary.count:,} images, median of the first set {summary.median:.4g}: {summary.path}")
    if summary.unreadable:
        print(f"{summary.unreadable:,} more could not be read and have no energy")
    if summary.slope is not None:
        print(f"corrected by {summary.slope:.3g} for every nat of an image's compressed size")
    if summary.auroc is not None:
        print(f"AUROC {summary.auroc:.4f}: the probability that a foreign image has the higher energy of two")
