"""What the figures were measured on."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Any

import torch

from bench.peers import versions
from sanslabel.hardware import main_memory

UNITS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
"""of processors, in the order of what they bring"""


def facts(device: torch.device) -> dict[str, Any]:
    """Name and versions, as they stand in the results."""
    found = {"torch": torch.__version__, "python": platform.python_version(), **versions()}
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        return {"device": about.name, "memory": f"{about.total_memory / 2**30:.0f} GiB", "versions": found}
    return {
        "device": f"{_processor()}, {torch.get_num_threads()} cores",
        "memory": f"{main_memory() / 2**30:.0f} GiB",
        "versions": found,
    }


def slug(name: str) -> str:
    """A file's name for a device's."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _processor() -> str:
    about = Path("/proc/cpuinfo")
    if not about.exists():
        return platform.processor() or platform.machine()
    text = about.read_text()
    name = re.search(r"model name\s*: (.*)", text)
    flags = set(re.search(r"flags\s*: (.*)", text)[1].split()) if "flags" in text else set()
    unit = next((unit for unit in UNITS if unit in flags), None)
    return (name[1].strip() if name else platform.machine()) + (f" with {unit}" if unit else "")
