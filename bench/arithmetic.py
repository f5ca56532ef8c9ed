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


PEAKS = {
    "NVIDIA H200": 989e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
}
"""operations a second in bfloat16 with dense matrices, by NVIDIA's data sheets. Those of the H200 and H100 give twice
as many, 1,979 and 1,513 TFLOP/s, for sparse matrices."""
