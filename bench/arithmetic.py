"""How many operations a step takes, and a call in which the device does nothing but multiply."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


def operations(call: Callable[[], object]) -> int:
    """Floating-point operations of the products, convolutions and attention of a call, its backward pass included:
    two for each multiplication, whose sum is the other one."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def product(device: torch.device, dtype: torch.dtype) -> tuple[Callable[[], object], int]:
    """A product of two square matrices, large enough to keep the device busy, and its operations."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return lambda: torch.mm(a, b), 2 * side**3
