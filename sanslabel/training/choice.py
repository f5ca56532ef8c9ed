"""The settings of a run that a person left open, chosen for the data and the machine, and what the run is expected to
take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from math import prod

import torch

from sanslabel.device import cores
from sanslabel.distributed import on_first_process, world_size
from sanslabel.errors import BadInput
from sanslabel.inputs import DECODE_FACTOR, ImageSpec
from sanslabel.memory_limits import free_memory, used_memory
from sanslabel.methods.method import Method
from sanslabel.recipe import Recipe
from sanslabel.run_config import Expected, Plan
from sanslabel.settings import Settings
from sanslabel.sources import Source
from sanslabel.sources.pictures.cache import fitting
from sanslabel.sources.pictures.stored_picture import size
from sanslabel.sources.stores.store import Unreadable
from sanslabel.training.defaults import SIZES, Choice, Cost, Question, chosen, largest_batch, sizes
from sanslabel.training.header import readable_bytes
from sanslabel.training.rehearsal import Excerpt, Measured, measured

MINUTES = {"cpu": 10.0}
"""minutes that a run may take by default, by the kind of device"""
MINUTES_ELSEWHERE = 30.0
"""minutes on a GPU"""
MEMORY_SHARE = 0.9
"""the share of the free memory that a choice may take"""
SCRATCH = 1.7
"""memory that a step takes on the CPU for each byte of its tensors: its kernels use blocks of their own, and freed
memory is not reused without gaps (measured 1.2 to 2.1 for convnets, a transformer and a VAE, 32 to 224 pixels)"""
FORWARDS = 1 / 3
"""time that evaluation takes for each sample, as a share of a training step's: a forward pass of two encoders, where
most methods make two passes forward and backward"""
PROBES = 6e-3
"""seconds that the protocols of an evaluation take for each labeled sample (measured 0.007 with 6,900 samples of 22
classes on two cores)"""
STARTING = 5.0
"""seconds that worker processes, the export and the last checkpoint take"""
LARGEST_FILES = 8
"""files whose headers are read to find the largest picture"""
PIXEL_BYTES = 12
"""bytes for each pixel of a picture while it is decoded: the file's pixels, and copies with three channels"""
SAVED = 3
"""checkpoints that lie on the disk at most"""

Resolve = Callable[[Source, Settings], tuple[Plan, Method]]
"""a function that makes a plan and its method from data and settings"""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """The settings of a run after the choice."""

    source: Source
    """the data, at the image size that was chosen"""
    settings: Settings
    chosen: Mapping[str, str] = field(default_factory=dict)
    """the reason for each setting that was chosen, by its name"""
    expected: Expected | None = None


def fitted(
    source: Source, device: torch.device, recipe: Recipe, settings: Settings, resolve: Resolve, keeps_recipe: bool
) -> Fitted:
    """Returns the settings with image size, batch and epochs chosen where they are open, and the time and memory that
    the run is expected to take.

    keeps_recipe: True to take batch and epochs from the recipe where they are open; epochs are chosen nevertheless if
    `minutes` is given. If several processes train together, all of them call this function. Raises BadInput if the run
    would not fit into memory, or if the method cannot train on the data.
    """
    if source.samples is None or len(source) < 2 * world_size():
        return Fitted(source=source, settings=settings)
    question = _question(source, device, recipe, settings, keeps_recipe)
    excerpt = Excerpt.of(_at_size(source, sizes(question)[-1]))
    refusals: list[BadInput] = []

    @cache
    def cost(size: int) -> Cost | None:
        batch, epochs = question.batch_given or largest_batch(question), question.epochs_given or 2
        trial = _set(source, settings, size, batch, epochs)
        try:
            plan, method = resolve(excerpt.at_size(size), replace(trial, cache="none", workers=0))
            return _cost(
                _at_size(source, size),
                device,
                settings,
                excerpt.read_in,
                measured(plan, method, recipe, excerpt.at_size(size)),
            )
        except BadInput as error:
            refusals.append(error)
            return None

    choice = chosen(question, cost)
    if choice is None:
        raise refusals[-1]
    known = cost(choice.size)
    assert known is not None
    if known.memory(choice.batch) > question.memory:
        raise BadInput(_too_large(source, known, choice, question))
    expected = Expected(
        seconds=round(known.seconds(choice.batch, choice.epochs * (len(source) // choice.batch)), 1),
        memory=known.memory(choice.batch),
        disk=known.disk,
    )
    return Fitted(
        source=_at_size(source, choice.size),
        settings=replace(settings, epochs=choice.epochs)
        if keeps_recipe
        else _set(source, settings, choice.size, choice.batch, choice.epochs),
        chosen=choice.reasons,
        expected=expected,
    )


def _question(source: Source, device: torch.device, recipe: Recipe, settings: Settings, keeps_recipe: bool) -> Question:
    image = source.inputs.get("image")
    side = max(image.height, image.width) if isinstance(image, ImageSpec) else 0
    size_is_open = settings.image_size is None and source.pictures is not None and not keeps_recipe
    batch = settings.batch or (recipe.batch if keeps_recipe else None)
    epochs = settings.epochs or (recipe.epochs if keeps_recipe and settings.minutes is None else None)
    return Question(
        samples=len(source),
        side=side,
        minutes=settings.minutes or MINUTES.get(device.type, MINUTES_ELSEWHERE),
        memory=on_first_process(_available, device),
        batch=recipe.batch,
        processes=world_size(),
        size_given=None if size_is_open else settings.image_size or side,
        batch_given=batch,
        epochs_given=epochs,
        noun=source.noun,
    )


def _available(device: torch.device) -> int:
    """Returns the bytes of memory that a run on the device may take, with what this process has taken already."""
    if device.type == "cuda":
        return round(MEMORY_SHARE * torch.cuda.mem_get_info(device)[0])
    return used_memory() + round(MEMORY_SHARE * free_memory())


def _at_size(source: Source, size: int) -> Source:
    """Returns the source with its image files decoded for this side, in pixels."""
    pictures = source.pictures
    if pictures is None or pictures.height == pictures.width == size:
        return source
    spec = replace(pictures.image, height=size, width=size)
    return source.with_pictures(replace(pictures, inputs={**pictures.inputs, "image": spec}))


def _set(source: Source, settings: Settings, size: int, batch: int, epochs: int) -> Settings:
    """Returns the settings with these values. Data that are no image files keep their own size."""
    size_set = settings.image_size if source.pictures is None else size
    return replace(settings, image_size=size_set, batch=batch, epochs=epochs)


def _cost(source: Source, device: torch.device, settings: Settings, read_in: float, known: Measured) -> Cost:
    """Returns the cost of a run at the source's image size from that of its steps."""
    cpu, samples, pictures = device.type != "cuda", len(source), source.pictures
    cache = settings.cache or on_first_process(fitting, source, 2)
    pixels = pictures.pixel_bytes if pictures is not None else 0
    read = read_in / max(1, cores() // 2 if cpu else cores() - 1)
    once = STARTING + (samples * (FORWARDS * known.sample + PROBES) if source.classes else 0.0)
    kept = cache != "none" and pictures is not None
    return Cost(
        step=known.step,
        sample=known.sample + (0.0 if kept else read),
        fixed=known.weights + (used_memory() + (pixels if cache == "ram" else 0) if cpu else 0),
        step_bytes=round(known.step_bytes * (SCRATCH if cpu else 1)),
        sample_bytes=round(known.sample_bytes * (SCRATCH if cpu else 1)),
        loaded_bytes=2 * pictures.canvas_bytes if cpu and source.decodes and pictures is not None else 0,
        chunk=settings.chunk,
        decoding=_decoding_bytes(source) if cpu else 0,
        disk=SAVED * known.weights,
        once=once + (samples * read if kept else 0.0),
    )


def _decoding_bytes(source: Source) -> int:
    """Returns the bytes that decoding the largest picture takes. The largest one is looked for among the largest
    files."""
    if (pictures := source.pictures) is None:
        return 0
    pixels = [0]
    for row in pictures.store.status()[:, 0].argsort()[-LARGEST_FILES:].tolist():
        with suppress(Unreadable):
            pixels.append(prod(size(pictures.file(row))))
    return PIXEL_BYTES * max(pixels)


def _too_large(source: Source, cost: Cost, choice: Choice, question: Question) -> str:
    """Returns the sentence for a run that does not fit into memory."""
    smaller = ["--batch"] if question.batch_given or choice.batch > 2 else []
    smaller += ["--image-size"] if question.size_given or choice.size > SIZES[0] else []
    smaller += ["--decode-factor"] if source.pictures and source.pictures.decode_factor > DECODE_FACTOR else []
    return (
        f"{source.name}: training takes about {readable_bytes(cost.memory(choice.batch))} of memory, and"
        f" {readable_bytes(question.memory)} are free; lower {' or '.join(smaller) or '--encoder'}, or set --chunk."
    )
