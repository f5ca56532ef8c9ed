"""Compilation of networks in place, with torch.compile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from shutil import which

import torch
from torch import nn

from sanslabel.encoders import Encoder
from sanslabel.errors import BadInput
from sanslabel.methods.method import Networks

COMPILERS = ("c++", "g++", "clang++")


def check_compiler(device: torch.device) -> None:
    """Raises BadInput if there is no C++ compiler, or if the package triton is missing on CUDA."""
    if not any(map(which, filter(None, (os.environ.get("CXX"), *COMPILERS)))):
        raise BadInput("--compile: there is no C++ compiler here; install one (apt install g++), or leave it out.")
    if device.type == "cuda" and find_spec("triton") is None:
        raise BadInput("--compile: the package triton is missing; pip install triton, or leave it out.")


def compile_(net: nn.Module) -> None:
    """Makes torch compile each module that is always called as one, at its first call. The state dict stays the same.

    Each input shape is compiled separately. There are few: the shape of batches does not change, and the crops of a
    multi-crop method have two shapes.
    """
    for unit in _units(net):
        unit.compile(dynamic=False)


def _units(module: nn.Module) -> Iterator[nn.Module]:
    """Yields heads and the units of encoders. The units of a transformer are its blocks. Blocks are alike, so one
    compilation serves all of them, and methods can still read the tokens."""
    for child in module.children():
        if isinstance(child, Networks | nn.ModuleList):
            yield from _units(child)
        elif isinstance(child, Encoder):
            yield from child.units()
        elif any(True for _ in child.parameters()):
            yield child
