"""The precision that losses compute in."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def in_float32(loss: Callable[P, R]) -> Callable[P, R]:
    """Returns the loss, computed outside autocast and with half-precision tensors converted to float32. float64
    stays."""

    @wraps(loss)
    def exact(*args: P.args, **kwargs: P.kwargs) -> R:
        device = next(x.device.type for x in (*args, *kwargs.values()) if isinstance(x, Tensor))
        with torch.autocast(device, enabled=False):
            return loss(*map(widened, args), **{k: widened(v) for k, v in kwargs.items()})  # pyright: ignore

    return exact


def widened(value: Any) -> Any:
    """Returns a tensor of half precision as float32; any other value stays as it is."""
    half = isinstance(value, Tensor) and value.dtype in {torch.float16, torch.bfloat16}
    return value.float() if half else value
