"""The machine, versions and commit that figures were measured with."""

from __future__ import annotations

import platform
import re
import subprocess
from datetime import date
from importlib.metadata import version
from pathlib import Path
from shutil import which
from typing import Any

import torch

from bench.peers import versions
from sanslabel.memory_limits import main_memory

UNITS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
"""vector and matrix units of CPUs, the fastest first"""


def facts(device: torch.device) -> dict[str, Any]:
    """Returns the kind, name and memory of a device, as the results store them."""
    host = f"{_processor()}, {torch.get_num_threads()} cores"
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        memory = f"{card.total_memory / 2**30:.0f} GiB, in a machine with {host}"
        return {"kind": device.type, "device": card.name, "memory": memory}
    return {"kind": device.type, "device": host, "memory": f"{main_memory() / 2**30:.0f} GiB"}


def occasion() -> dict[str, Any]:
    """Returns the day, commit and versions of a measurement."""
    packages = {name: version(name) for name in ("pillow", "numpy", "scikit-learn")}
    known = {"torch": torch.__version__, "python": platform.python_version(), **packages, **versions()}
    return {"on": date.today().isoformat(), "commit": commit(), "versions": known}


def commit() -> str:
    """Returns the short hash of the last commit that changed code, with a + if there are uncommitted changes.

    It is empty if git does not know.
    """
    code = ("--", "sanslabel", "bench/*.py")
    return _git("log", "-1", "--format=%h", *code) + ("+" if _git("status", "--porcelain", *code) else "")


def _git(*arguments: str) -> str:
    if which("git") is None:
        return ""
    root = Path(__file__).parents[1]
    process = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    return process.stdout.strip()


def slug(name: str) -> str:
    """Returns a file name for a device's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _processor() -> str:
    """Returns the name of the CPU and its fastest unit."""
    file = Path("/proc/cpuinfo")
    if not file.exists():
        return platform.processor() or platform.machine()
    text = file.read_text()
    name = re.search(r"model name\s*: (.*)", text)
    flags = set(re.search(r"flags\s*: (.*)", text)[1].split()) if "flags" in text else set()
    unit = next((unit for unit in UNITS if unit in flags), None)
    return (name[1].strip() if name else platform.machine()) + (f" with {unit}" if unit else "")
