"""The libraries that the benches compare with. One that is not installed is left out."""

from __future__ import annotations

import importlib
from functools import lru_cache
from types import ModuleType

import torch

from sanslabel.device import cores

NAMES = ("lightly", "kornia", "torchvision", "stable_pretraining")
INSTALL = 'pip install -c constraints.txt -e ".[bench]"'
WORKERS = cores()
"""worker processes of their loaders, where these have workers"""


@lru_cache
def imported(name: str) -> ModuleType | None:
    """Returns the module of that name, or None if it cannot be imported."""
    if name != "torchvision":
        imported("torchvision")  # others import it when they are used, and cannot declare the operators that it lacks
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
    """Returns the versions of the libraries that can be imported."""
    modules = {name: imported(name) for name in NAMES}
    return {name: getattr(module, "__version__", "?") for name, module in modules.items() if module is not None}


_libraries: list[torch.library.Library] = []
"""declarations of operators, which last as long as these objects"""


def _declared() -> bool:
    return bool(_libraries) or hasattr(torch.ops.torchvision, "nms")


def _declare() -> None:
    """Declares two operators of torchvision's compiled part, without which it cannot be imported beside a CPU build."""
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _libraries.append(library)
