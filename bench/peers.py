"""Other projects to compare with."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from importlib import import_module
from types import ModuleType

import torch


def imported(name: str) -> ModuleType | None:
    """The module, or None where it does not import."""
    _torchvision()
    try:
        return import_module(name)
    except (ImportError, RuntimeError, OSError):
        return None


@cache
def _torchvision() -> torch.library.Library | None:
    """Beside a CPU build of torch it imports, as others do that need it, once those operators are declared that its
    compiled part would have; they go with what is returned."""
    with suppress(ImportError):
        try:
            import_module("torchvision")
        except (RuntimeError, OSError):
            library = torch.library.Library("torchvision", "DEF")
            library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            return library
    return None
