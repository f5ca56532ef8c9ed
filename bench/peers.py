"""The libraries that the benches compare with; each is left out where it is not installed."""

from __future__ import annotations

import importlib
from functools import lru_cache
from types import ModuleType

import torch

NAMES = ("lightly", "kornia", "torchvision", "stable_pretraining")
INSTALL = 'pip install -c constraints.txt -e ".[bench]"'

_declared: list[torch.library.Library] = []


@lru_cache
def imported(name: str) -> ModuleType | None:
    """The module of that name, or None where it cannot be imported.

    torchvision's wheel, and with it all that imports it, fails beside a CPU build of torch unless the two operators
    that its compiled part would declare are declared for it.
    """
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError, OSError):
        if _declared or _has_operators():
            return None
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)  # it undoes its definitions when it goes
        return imported.__wrapped__(name)


def versions() -> dict[str, str]:
    """Of the peers that are there."""
    found = {name: imported(name) for name in NAMES}
    return {name: getattr(module, "__version__", "?") for name, module in found.items() if module is not None}


def _has_operators() -> bool:
    return hasattr(torch.ops.torchvision, "nms")
