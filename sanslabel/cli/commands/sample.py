"""new images of a generative model, or reconstructions"""

from __future__ import annotations

from dataclasses import dataclass

from sanslabel.cli.flags import parse_flags
from sanslabel.errors import BadInput

GROUP = "Generate"
USAGE = "sample RUN [--interpolate] …"


@dataclass(frozen=True)
class Sample:
    """Draw new images of a run's model as a PNG."""

    run: str
    """the run folder"""
    n: int | None = None
    """number of images (default 64), of rows with --interpolate (8), or of columns with --reconstruct (16)"""
    interpolate: bool = False
    """show rows of images that lead from one code to another"""
    reconstruct: bool = False
    """show images of --data, the input that the model gets for each, and the reconstructions"""
    data: str | None = None
    """images to reconstruct (by default those of the run), or to interpolate between (by default random codes)"""
    out: str | None = None
    """the .png file; by default in the run folder"""
    seed: int = 0
    """the same seed gives the same bytes on one device"""
    device: str | None = None
    """cpu, cuda, cuda:1, mps; by default cuda if there is one, else cpu"""


def run(arguments: list[str]) -> None:
    """Writes the picture and prints its path."""
    flags = parse_flags(Sample, "sample", arguments, Sample.__doc__ or "")
    if flags.interpolate and flags.reconstruct:
        raise BadInput("--interpolate and --reconstruct make two different pictures; give one of them.")
    from sanslabel.generation import interpolation, reconstructions, samples

    common = {"out": flags.out, "seed": flags.seed, "device": flags.device}
    count = {} if flags.n is None else {"count": flags.n}
    if flags.interpolate:
        print(interpolation(flags.run, data=flags.data, **count, **common).path)
    elif flags.reconstruct:
        print(reconstructions(flags.run, data=flags.data, **count, **common).path)
    elif flags.data is not None:
        raise BadInput("--data is not used for plain samples; add --reconstruct or --interpolate.")
    else:
        print(samples(flags.run, **count, **common).path)
