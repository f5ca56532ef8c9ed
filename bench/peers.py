"""The libraries that the benches compare with; each is left out where it is not installed."""

from __future__ import annotations

import importlib
from functools import lru_cache
from types import ModuleType

import torch

from sanslabel.device import cores

NAMES = ("lightly", "kornia", "torchvision", "stable_pretraining")
INSTALL = 'pip install -c constraints.txt -e ".[bench]"'
WORKERS = cores()
"""processes of their loaders, where they have any"""


@lru_cache
def imported(name: str) -> ModuleType | None:
    """The module of that name, or None where it cannot be imported."""
    if name != "torchvision":
        imported("torchvision")  # others reach for it when they are used, and cannot declare what it lacks
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError, OSError):
        if name != "torchvision" or _declared():
            return None
    _declare()
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError, OSError):
        return None


def versions() -> dict[str, str]:
    """Of the peers that are there."""
    found = {name: imported(name) for name in NAMES}
    return {name: getattr(module, "__version__", "?") for name, module in found.items() if module is not None}


_libraries: list[torch.library.Library] = []
"""what was declared; it goes when they go"""


def _declared() -> bool:
    return bool(_libraries) or hasattr(torch.ops.torchvision, "nms")


def _declare() -> None:
    """torchvision's wheel fails beside a CPU build of torch unless two operators of its compiled part are declared."""
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _libraries.append(library)
