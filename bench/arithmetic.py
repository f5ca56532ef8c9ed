"""The number of operations of a call, and a call in which the device does nothing but multiply."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


def operations(call: Callable[[], object]) -> int:
    """Returns the floating-point operations of a call's products, convolutions and attention, backward pass included.

    A multiplication and its addition count as two.
    """
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def product(device: torch.device, dtype: torch.dtype) -> tuple[Callable[[], object], int]:
    """Returns a call that multiplies two square matrices, large enough to keep the device busy, and its operations."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return lambda: torch.mm(a, b), 2 * side**3
