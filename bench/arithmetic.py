"""How many operations a step takes, and how many the device does in a second where it does nothing but multiply."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.turns import seconds


def operations(call: Callable[[], object]) -> int:
    """Floating-point operations of the products, convolutions and attention of a call, its backward pass included:
    two for each multiplication, whose sum is the other one."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@cache
def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second in a product of two square matrices, large enough to keep the device busy."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))

    return 2 * side**3 / seconds({"product": lambda: torch.mm(a, b)}, device)["product"]
