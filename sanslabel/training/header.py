"""The lines that a run prints before its first step: the data, and how it trains on them."""

from __future__ import annotations

from collections.abc import Iterator

from sanslabel.console import errors
from sanslabel.inputs import DECODE_FACTOR, ImageSpec, SpectrogramSpec, TextSpec
from sanslabel.run_config import Plan
from sanslabel.sources.pictures.images import ImagesFrom
from sanslabel.sources.source import LEAST_DEVIATION
from sanslabel.training.session import Session
from sanslabel.wording import counted, plural

FEW = 100
"""number of samples below which a header warns"""
FLAGS = {"image_size": "--image-size", "batch": "--batch", "epochs": "--epochs"}
"""flags of the settings that are chosen"""


def print_header(session: Session) -> None:
    """Prints the header of a run to standard error."""
    encoders = session.method.encoders(session.net)
    weights = sum(parameter.numel() for parameter in next(iter(encoders.values())).parameters())
    for line in header(session.plan, session.source.name, weights, session.source.pictures):
        print(line, file=errors())


def header(plan: Plan, name: str, weights: int, pictures: ImagesFrom | None = None) -> Iterator[str]:
    """Yields the lines of a header.

    name: the name of the data. weights: the number of the encoder's weights. pictures: the image files of the data.
    """
    image, sound = plan.inputs.get("image"), plan.inputs.get("audio")
    colors, size = "", ""
    if isinstance(image, ImageSpec) and plan.image_size > 1:
        colors = f", {({1: 'gray', 3: 'color'}).get(image.channels, f'{image.channels} channels')}"
        size = f", {plan.image_size} x {plan.image_size} pixels"
    elif isinstance(sound, SpectrogramSpec):
        size = f", {sound.mels} mel bands x {sound.frames} frames"
    elif isinstance(text := plan.inputs.get("source"), TextSpec):
        size = f", up to {text.length} tokens from a vocabulary of {text.vocabulary:,}"
    samples, classes = counted(plan.samples, plan.noun), f", {plan.classes} classes" if plan.classes else ""
    yield f"{name}: {samples}{colors}{classes}"
    yield from plan.remarks
    _, deviation = plan.encoder.get("scaling") or ((), (1.0,))
    if image is not None and max(deviation) <= LEAST_DEVIATION:
        yield (
            f"all {plural(plan.noun)} that were looked at have one color, so there is nothing to learn; white drawings"
            " on a transparent ground vanish on white"
        )
    encoder = f"encoder {plan.encoder['name']} ({readable_count(weights)} weights)"
    share = f" ({plan.batch // plan.world_size:,} on each of {plan.world_size} processes)"
    batch = f"batch {plan.batch:,}{share if plan.world_size > 1 else ''}"
    steps = counted(plan.samples // plan.batch * plan.epochs, "step")
    yield f"training: {plan.method}{size}, {encoder}, {batch}, {counted(plan.epochs, 'epoch')} = {steps}"
    if plan.near:
        yield f"pairs: the second view is drawn from up to {plan.near:g} s before or after the first one (--near)"
    if pictures is not None and pictures.decode_factor > DECODE_FACTOR:
        takes = readable_bytes(pictures.canvas_bytes * plan.batch // plan.world_size)
        yield (
            f"pictures: decoded to {pictures.side:,} pixels on the shorter side, about {takes} for a batch"
            " (--decode-factor)"
        )
    if plan.samples < FEW:
        yield f"{samples} are few: an encoder needs hundreds to learn anything, better thousands"
    if plan.chosen:
        yield f"chosen: {'; '.join(_choices(plan))}"
    if plan.expected is not None:
        takes = plan.expected
        yield (
            f"expected: {duration(takes.seconds)}, {readable_bytes(takes.memory)} of memory,"
            f" up to {readable_bytes(takes.disk)} of disk"
        )
    if plan.chosen:
        yield f"change it with {', '.join(('--minutes', *(FLAGS[name] for name in plan.chosen)))}, --encoder"


def _choices(plan: Plan) -> Iterator[str]:
    """Yields each value that was chosen, with its reason."""
    values = {
        "image_size": f"{plan.image_size} pixels",
        "batch": f"batch {plan.batch:,}",
        "epochs": counted(plan.epochs, "epoch"),
    }
    for name, reason in plan.chosen.items():
        yield f"{values[name]}, {reason}"


def readable_count(count: int) -> str:
    """Returns a large number with two digits, such as "1.2 M"."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.{1 if count < 10 * size else 0}f} {unit}"
    return str(count)


def readable_bytes(count: int) -> str:
    """Returns a number of bytes in the unit that suits it: "1.3 GiB", "31 MiB"."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{max(1, round(count / 2**20))} MiB"


def duration(seconds: float) -> str:
    """Returns a time with the precision of an estimate: "about 4 minutes"."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 1.5 * length:
            return f"about {seconds / length:.{1 if seconds < 10 * length and length > 60 else 0}f} {unit}s"
    return "about a minute" if seconds >= 45 else f"about {max(1, round(seconds / 10)) * 10} seconds"
