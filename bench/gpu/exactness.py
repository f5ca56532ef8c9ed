"""a. Every method on the GPU: the losses of the CPU, a resume to the same bits, bfloat16 and compiled networks.

Each method trains for one epoch of the digits, of clips of them, or of shapes with sound, in float32 without
TensorFloat-32, on the GPU and on the CPU. DeepCluster trains for two epochs, since it fills its memory in the first.
The difference is the largest of all steps, relative to losses above 1. On the GPU, a run that was interrupted halfway
is resumed, and all tensors of its last checkpoint are compared with those of the run that was not. Then it trains in
bfloat16, and in bfloat16 with `--compile`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

import sanslabel
from bench.bouncing import bouncing
from bench.gpu.place import Place
from bench.running import without_estimates
from bench.same import EPOCHS, remembered
from sanslabel import methods
from sanslabel.sources import Request, open_source
from sanslabel.sources.texts.grammar import english, french
from sanslabel.training import session

BOUND = 1e-3
"""the difference up to which losses count as equal"""
TOY_SAMPLES, TOY_BATCH = 32, 8
SAMPLES = 1438
"""as many as there are digits"""
CLIP, RATE = 32, 25.0
"""frames of a clip, and of a second"""


def matched(method: str, place: Place) -> dict[str, Any]:
    """Returns how far the GPU's losses are from the CPU's, whether a resume is exact, and the last loss in bfloat16."""
    with TemporaryDirectory() as folder, without_tensor_float():
        run, again = Path(folder) / "run", Path(folder) / "again"
        here = losses(method, place, run)
        there = losses(method, place, Path(folder) / "cpu", device="cpu")
        losses(method, place, again, last=(len(here) + 1) // 2)
        sanslabel.resume(again)
        exact = remembered(run) == remembered(again)
    return {
        "steps": len(here),
        "loss": here[-1][-1],
        "difference": max(map(difference, here, there)),
        "first_difference": difference(here[0], there[0]),
        "resume_is_exact": exact,
        "bfloat16": last_loss(method, place),
    }


def compiled(method: str, place: Place) -> dict[str, Any]:
    """Returns the last loss in bfloat16 with compiled networks."""
    return {"compiled": last_loss(method, place, compile=True)}


def last_loss(method: str, place: Place, **settings: Any) -> float:
    """Returns the last loss of a run in bfloat16. Raises ArithmeticError if it is not finite."""
    with TemporaryDirectory() as folder:
        (*_, last) = losses(method, place, Path(folder) / "run", precision="bfloat16", **settings)
    if not math.isfinite(last[-1]):
        raise ArithmeticError(f"the last loss is {last[-1]}")
    return last[-1]


def losses(method: str, place: Place, run: Path, last: int | None = None, **settings: Any) -> list[list[float]]:
    """Trains, and returns the losses of each step that has any, one for each update. last: the number of such steps
    after which the run is interrupted."""
    settings = {"device": place.kind, "precision": "float32", "epochs": EPOCHS.get(method, 1), **settings}
    if reads_clips(method):
        settings |= {"fps": RATE}
    if place.toy:
        size = {} if "source" in methods.method_class(method).signals else {"image_size": 8}
        settings |= {"batch": TOY_BATCH, **size}
    with without_estimates(), _recorded(last) as values, suppress(KeyboardInterrupt):
        sanslabel.train(data_of(method, place.toy), method=method, seed=0, workers=0, out=run, **settings)
    return values


def difference(here: list[float], there: list[float]) -> float:
    """Returns the largest difference of a step's losses, relative to those above 1."""
    return max(abs(a - b) / max(1.0, abs(b)) for a, b in zip(here, there, strict=True))


def data_of(method: str, toy: bool) -> str:
    """Returns the digits, for a method of clips as frames, a file of pictures with sound for one that reads both, or
    numbers in words for one of texts."""
    if "source" in methods.method_class(method).signals:
        return numbers(toy)
    if methods.method_class(method).signals != ("image",):
        return pictures_with_sound(toy)
    return frames(toy) if reads_clips(method) else digits(toy)


def reads_clips(method: str) -> bool:
    """Returns True if the method compares frames that follow each other in time."""
    kind = methods.method_class(method)
    return kind.under(kind.small).stretch > 1


@lru_cache(1)
def frames(toy: bool) -> str:
    """Returns a folder of clips, whose frames are digits."""
    source = open_source("digits", "train").subset(torch.arange(TOY_SAMPLES if toy else SAMPLES))
    pixels = source.load(Request(torch.arange(len(source)))).images.pixels
    folder = Path(gettempdir()) / f"clips-of-{len(source)}-digits"
    for row, image in enumerate(pixels[:, 0].numpy()):
        clip = folder / f"{row // CLIP:03}"
        clip.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(clip / f"{row % CLIP:03}.png")
    return str(folder)


@lru_cache(2)
def pictures_with_sound(toy: bool) -> str:
    """Returns a file of bouncing shapes with their sounds."""
    samples = TOY_SAMPLES if toy else SAMPLES
    file = Path(gettempdir()) / f"bouncing-{samples}.npz"
    np.savez(file, **bouncing(samples, frames=1, side=8 if toy else 32, rate=1000 if toy else 8000))
    return str(file)


@lru_cache(1)
def numbers(toy: bool) -> str:
    """Returns a folder with tables of numbers in English and French words."""
    samples = TOY_SAMPLES if toy else SAMPLES
    folder = Path(gettempdir()) / f"numbers-{samples}"
    folder.mkdir(exist_ok=True)
    for split, values in (("train", range(samples)), ("test", range(samples, samples + TOY_SAMPLES))):
        lines = [f"{english(value)}\t{french(value)}\n" for value in values]
        (folder / f"{split}.tsv").write_text("".join(lines))
    return str(folder)


@lru_cache(1)
def digits(toy: bool) -> str:
    """Returns the name of the digits, or a file with the first ones."""
    if not toy:
        return "digits"
    few = open_source("digits", "train").subset(torch.arange(TOY_SAMPLES))
    images = few.load(Request(torch.arange(TOY_SAMPLES))).images.pixels
    file = Path(gettempdir()) / "few-digits.npz"
    np.savez(file, images=images.numpy(), labels=few.labels.numpy())
    return str(file)


@contextmanager
def _recorded(last: int | None) -> Iterator[list[list[float]]]:
    """Context manager with the losses of the steps that are trained in it. If `last` is given, training saves after
    each step, and is interrupted after so many steps with losses."""
    values: list[list[float]] = []

    def recorded(*arguments: Any) -> Iterator[Any]:
        for record in optimize(*arguments):
            if record.objectives:
                values.append([objective.loss.item() for objective in record.objectives])
            yield record
            if len(values) == last:
                raise KeyboardInterrupt

    optimize = session.optimize
    saves = patch.object(session, "SAVE_AFTER", session.SAVE_AFTER if last is None else 0.0)
    with patch.object(session, "optimize", recorded), saves:
        yield values


@contextmanager
def without_tensor_float() -> Iterator[None]:
    """Context manager in which the GPU computes float32 as the CPU does."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
