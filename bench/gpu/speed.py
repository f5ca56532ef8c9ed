"""b, c and d. The speed of views, of the whole step beside the bare network, and of other libraries at the same work.

Views are SimCLR's, two of each image, in batches that lie on the device. Their share is that of the whole step of
SimCLR with the encoder of that size, in bfloat16. Whole and bare steps are those of `python -m bench.step`: images a
second are those of the data, each of which is seen twice. The utilization (MFU) is a ratio of operations: those of the
bare network's products and convolutions in the time of the whole step, over the device's peak in bfloat16. The peak is
that of NVIDIA's data sheet for dense matrices, 989 TFLOP/s for the H200 and the H100 with HBM3. The last column holds
the same operations against those of large matrix products that were measured beside the steps.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from bench import step, views
from bench.gpu.place import Place
from bench.interleaving import median_seconds
from bench.peers import WORKERS, imported
from bench.running import followed
from bench.step import Case
from sanslabel.memory_limits import keep_freed_memory
from sanslabel.training.determinism import reproducible

VIEWS = {
    32: Case("resnet18", 3, 32, 32, 512, steps=8, epoch=32),
    96: Case("resnet18", 3, 96, 96, 256, steps=4, epoch=32),
    224: Case("resnet50", 3, 256, 224, 256, steps=4, epoch=32),
}
"""side of the views -> the step that their share is of"""
STEPS = {case.encoder: case for case in step.CASES["cuda"]}
TOY = Case("conv", 3, 16, 16, 4, steps=1, epoch=2)


def view_speed(side: int, place: Place) -> dict[str, Any]:
    """Returns views a second by precision, and their share of a step."""
    case = TOY if place.toy else VIEWS[side]
    speeds = _speeds(
        {"bfloat16": _ours(case, place, torch.bfloat16), "float32": _ours(case, place, torch.float32)}, place
    )
    with reproducible(place.device):
        whole = step.turn(followed(step.training(case, place.device)), case.steps)
        whole()
        share = step.views_share(whole, place.device)
    views_per_second = {name: 2 * case.batch * speed for name, speed in speeds.items()}
    return {"case": str(case), "views_per_second": views_per_second, "views_share": share}


def step_speed(encoder: str, compiled: bool, place: Place) -> dict[str, Any]:
    """Returns the figures of `bench.step` for an encoder."""
    case = TOY if place.toy else STEPS[encoder]
    return step.measured(case, place.device, place.rounds, place.at_least, compiled)


def kornia(place: Place) -> dict[str, Any]:
    """Returns views a second of this package and of kornia, by side."""
    _require("kornia")
    return _beside("kornia", views.kornia, 0, place)


def lightly(place: Place) -> dict[str, Any]:
    """Returns views a second of this package and of lightly's loader, by side."""
    _require("lightly")
    workers = 0 if place.toy else WORKERS
    made = partial(views.lightly, workers=workers)
    return _beside(f"lightly, {workers} workers", made, views.images_per_epoch(workers), place)


def lightly_step(place: Place) -> dict[str, Any]:
    """Returns images a second of this package's step and of lightly's."""
    _require("lightly")
    case = TOY if place.toy else STEPS["resnet18"]._replace(epoch=16)
    whole = step.turn(followed(step.training(case, place.device)), case.steps)
    workers = (0,) if place.toy else (WORKERS,)
    return {"case": str(case), "beside": step.beside(case, whole, place.device, workers, place.at_least)}


def _ours(case: Case, place: Place, precision: torch.dtype) -> Callable[[], object]:
    return views.ours(views.noise(case.batch, case.channels, case.side, place.device), case.size, precision)


def _speeds(calls: dict[str, Callable[[], object]], place: Place) -> dict[str, float]:
    """Returns how often a second each call can be made."""
    with keep_freed_memory():
        taken = median_seconds(calls, place.device, place.rounds, place.at_least)
    return {name: 1 / seconds for name, seconds in taken.items()}


def _beside(name: str, library: Callable[..., Any], images: int, place: Place) -> dict[str, Any]:
    """Returns views a second here and of a library's call, which makes two views of so many images, or of the batch if
    they are 0."""
    result = {}
    for side, case in [(32, TOY)] if place.toy else VIEWS.items():
        batch = views.noise(64 if side == 224 else 256, case.channels, case.side, place.device)
        calls = {dtype: views.ours(batch, case.size, getattr(torch, dtype)) for dtype in ("bfloat16", "float32")}
        speeds = _speeds({**calls, name: library(batch, case.size)}, place)
        speeds = {
            who: speed * (images if images and who == name else len(batch.index)) for who, speed in speeds.items()
        }
        result[side] = {who: 2 * speed for who, speed in speeds.items()}
    return {"views_per_second": result}


def _require(library: str) -> None:
    if imported(library) is None:
        raise ImportError(f"{library} is there and cannot be imported")
