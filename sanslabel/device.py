"""The device to compute on, and how tensors are computed there."""

from __future__ import annotations

import os
import warnings
from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import Tensor

from sanslabel.errors import BadInput

Precision = Literal["float32", "bfloat16"]
Sharding = Literal["replicate", "full"]
DEVICES = ("cpu", "cuda", "mps", "xpu")
"""kinds that can compute here; for others torch looks for modules of that name"""


def chosen_device(name: str | None) -> torch.device:
    """The device of that name, or CUDA where it is to be had, else the processor. BadInput where it is not there."""
    if name is None:
        if torch.cuda.is_available():
            try:
                return _tried(torch.device("cuda"))
            except RuntimeError as error:
                warnings.warn(f"the GPU cannot be used ({_reason(error)}); the processor is", stacklevel=2)
        return torch.device("cpu")
    if name.partition(":")[0] not in DEVICES:
        raise BadInput(f"--device {name}: is none of {', '.join(DEVICES)}, or one of these with :1 and so on.")
    try:
        device = _tried(torch.device(name))
    except (RuntimeError, AssertionError) as error:
        raise BadInput(f"--device {name}: is not to be had here ({_reason(error)}); try --device cpu.") from error
    if device.type == "mps" and torch.__version__ < "2.14":
        warnings.warn(
            "--device mps: torch has known defects there before 2.14, long products on an M1 or M2 among them, and give"
            " wrong numbers; hold results against those of --device cpu",
            stacklevel=2,
        )
    return device


def _tried(device: torch.device) -> torch.device:
    """The device, which has computed something: torch may have no kernels for an old card."""
    torch.ones(1, device=device).add_(1).item()
    return device


def _reason(error: BaseException) -> str:
    return str(error).partition("\n")[0]


def memory_format(device: torch.device) -> torch.memory_format:
    """Of images and weights that convolutions are fast with. On MPS, BatchNorm fails on channels-last or gives wrong
    gradients (pytorch issue 181411)."""
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def on_capable_device(tensor: Tensor) -> Tensor:
    """The tensor where all operations are to be had: in main memory in place of MPS, which lacks some."""
    return tensor.cpu() if tensor.device.type == "mps" else tensor


def fast_precision(device: torch.device) -> Precision:
    """bfloat16 where the hardware multiplies it: 2.7 times faster than float32 on a processor with AMX."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported() else "float32"


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Autocast: products and convolutions in that dtype, what needs more in float32. Of float32, nothing changes."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device. Nobody waits until it has arrived on CUDA, where it goes from memory that the system
    keeps in its place."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def deterministic_kernels() -> AbstractContextManager[None]:
    """Within it, cuDNN's kernels give the same bits each time. What else these flags would change is told to stay: by
    default they turn it off, and TensorFloat-32 on."""
    known = torch.backends.cudnn
    return known.flags(enabled=known.enabled, deterministic=True, benchmark=False, allow_tf32=known.allow_tf32)


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
