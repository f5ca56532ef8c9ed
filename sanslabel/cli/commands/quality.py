"""Fréchet distance, precision, recall and nats of a generative model"""

from __future__ import annotations

from dataclasses import dataclass

from sanslabel.cli.flags import parse_flags

GROUP = "Generate"
USAGE = "quality RUN ENCODER …"


@dataclass(frozen=True)
class QualityFlags:
    """Compare samples of a run's model with test images, in the features of a trained encoder."""

    run: str
    """the run folder of the generative model"""
    encoder: str
    """the run folder of the encoder"""
    data: str | None = None
    """images with a test split; by default those that the run was trained on"""
    n: int = 2000
    """number of samples, and of test images"""
    seed: int = 0
    """seed that draws samples and test images"""
    device: str | None = None
    """cpu, cuda, cuda:1, mps; by default cuda if there is one, else cpu"""


def run(arguments: list[str]) -> None:
    """Prints the measures."""
    flags = parse_flags(QualityFlags, "quality", arguments, QualityFlags.__doc__ or "")
    from sanslabel.generation import quality

    result = quality(flags.run, flags.encoder, data=flags.data, count=flags.n, seed=flags.seed, device=flags.device)
    print(f"{result.samples:,} samples against as many test images, by the features of {result.encoder}")
    print(f"Fréchet distance   {result.distance:.4g}   (training images: {result.floor:.4g})")
    print(f"precision, recall  {result.precision:.3f}, {result.recall:.3f}")
    for name, nats in result.bounds.items():
        print(f"nats of a test image, {name}: {nats:.2f}")
