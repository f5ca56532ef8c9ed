"""Compiled networks: torch.compile, applied to networks in place."""

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
    """Raises BadInput if a C++ compiler, or on CUDA the package triton, is missing."""
    if not any(map(which, filter(None, (os.environ.get("CXX"), *COMPILERS)))):
        raise BadInput("--compile: there is no C++ compiler here; install one (apt install g++), or leave it out.")
    if device.type == "cuda" and find_spec("triton") is None:
        raise BadInput("--compile: the package triton is missing; pip install triton, or leave it out.")


def compile_(net: nn.Module) -> None:
    """Compiles each module that is called as a whole, at its first call. The state and its names stay the same.

    Each shape is compiled by itself: those of batches do not change, and the crops of a multi-crop method have two.
    """
    for unit in _units(net):
        unit.compile(dynamic=False)


def _units(module: nn.Module) -> Iterator[nn.Module]:
    """Yields heads and the units of encoders. A transformer's units are its blocks: they are alike, so that they are
    compiled once, and methods also read its tokens."""
    for child in module.children():
        if isinstance(child, Networks | nn.ModuleList):
            yield from _units(child)
        elif isinstance(child, Encoder):
            yield from child.units()
        elif any(True for _ in child.parameters()):
            yield child
