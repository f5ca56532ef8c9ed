"""The device to compute on, and how to compute there."""

from __future__ import annotations

import os
import warnings
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from sanslabel.errors import BadInput
from sanslabel.settings import Precision
from sanslabel.wording import worded

DEVICES = ("cpu", "cuda", "mps", "xpu")
"""kinds that are accepted; for any other name torch would try to import a module of that name"""


def chosen_device(name: str | None) -> torch.device:
    """Returns the device of that name. None chooses CUDA if there is a usable GPU, else the CPU.

    Raises BadInput if the device does not exist or cannot compute.
    """
    if name is None:
        if torch.cuda.is_available():
            try:
                return _tested(torch.device("cuda"))
            except RuntimeError as error:
                warnings.warn(f"the GPU cannot be used ({_reason(error)}); using the CPU", stacklevel=2)
        return torch.device("cpu")
    if name.partition(":")[0] not in DEVICES:
        raise BadInput(
            f"--device {name}: must be one of {', '.join(DEVICES)}, or such a name with a number, like cuda:1."
        )
    try:
        device = _tested(torch.device(name))
    except (RuntimeError, AssertionError) as error:
        raise BadInput(f"--device {name}: cannot be used here ({_reason(error)}); try --device cpu.") from error
    if device.type == "mps" and torch.__version__ < "2.14":
        warnings.warn(
            worded(
                "--device mps: torch before 2.14 computes wrong numbers there in some cases, such as long products on"
                " an M1 or M2; compare results with those of --device cpu"
            ),
            stacklevel=2,
        )
    return device


def _tested(device: torch.device) -> torch.device:
    """Returns the device after computing something on it, since torch may have no kernels for an old GPU."""
    torch.ones(1, device=device).add_(1).item()
    return device


def _reason(error: BaseException) -> str:
    """Returns the first line of an error's message."""
    return str(error).partition("\n")[0]


def memory_format(device: torch.device) -> torch.memory_format:
    """Returns the memory format of images and weights that makes convolutions fast."""
    # On MPS, BatchNorm fails on channels-last or gives wrong gradients (pytorch issue 181411).
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def on_capable_device(tensor: Tensor) -> Tensor:
    """Returns the tensor on a device that has all operations: on the CPU if it is on MPS, which lacks some."""
    return tensor.cpu() if tensor.device.type == "mps" else tensor


def fast_precision(device: torch.device) -> Precision:
    """Returns "bfloat16" if the hardware multiplies it, else "float32". With AMX, bfloat16 is 2.7 times as fast."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported() else "float32"


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Returns a context in which products and convolutions are computed in that dtype, and the rest in float32.

    For float32 and float64 it changes nothing.
    """
    return torch.autocast(device.type, dtype, enabled=dtype.itemsize < 4)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Returns the tensor on the device. On CUDA it is copied from pinned memory, and nothing waits for the copy."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def deterministic_kernels() -> AbstractContextManager[None]:
    """Returns a context in which cuDNN's kernels give the same bits each time."""
    # The defaults of `flags` would turn cuDNN off and TensorFloat-32 on, so both get their present values.
    cudnn = torch.backends.cudnn
    return cudnn.flags(enabled=cudnn.enabled, deterministic=True, benchmark=False, allow_tf32=cudnn.allow_tf32)


def cores() -> int:
    """Returns the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
