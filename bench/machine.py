"""What the figures were measured on."""

from __future__ import annotations

import platform
import re
import subprocess
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from bench.peers import versions
from sanslabel.memory_limits import main_memory

UNITS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
"""of processors, in the order of what they bring"""


def facts(device: torch.device) -> dict[str, Any]:
    """Kind, name and memory, as they stand in the results."""
    host = f"{_processor()}, {torch.get_num_threads()} cores"
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        memory = f"{card.total_memory / 2**30:.0f} GiB, in a machine with {host}"
        return {"kind": device.type, "device": card.name, "memory": memory}
    return {"kind": device.type, "device": host, "memory": f"{main_memory() / 2**30:.0f} GiB"}


def occasion() -> dict[str, Any]:
    """Of a measurement: its day, and of what it is."""
    ours = {name: version(name) for name in ("pillow", "numpy", "scikit-learn")}
    found = {"torch": torch.__version__, "python": platform.python_version(), **ours, **versions()}
    return {"on": date.today().isoformat(), "commit": commit(), "versions": found}


def commit() -> str:
    """The short name of the last change of code, with a + where there are others since; nothing where git does not
    know."""
    code = ("--", "sanslabel", "bench/*.py")
    return _git("log", "-1", "--format=%h", *code) + ("+" if _git("status", "--porcelain", *code) else "")


def _git(*arguments: str) -> str:
    root = Path(__file__).parents[1]
    said = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    return said.stdout.strip()


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
