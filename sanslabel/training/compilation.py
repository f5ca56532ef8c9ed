"""Networks as torch compiles them, applied from outside in place."""

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
    """BadInput where something is missing that torch compiles with."""
    if not any(map(which, filter(None, (os.environ.get("CXX"), *COMPILERS)))):
        raise BadInput("--compile: there is no C++ compiler here; install one (apt install g++), or leave it out.")
    if device.type == "cuda" and find_spec("triton") is None:
        raise BadInput("--compile: the package triton is missing; pip install triton, or leave it out.")


def compile_(net: nn.Module) -> None:
    """Lets each part of the networks that is called as a whole run as compiled code, from its first call on. State and
    its names stay. A shape is compiled by itself: batches do not change theirs, and the crops of a multi-crop method
    have two."""
    for unit in _units(net):
        unit.compile(dynamic=False)


def _units(module: nn.Module) -> Iterator[nn.Module]:
    """Returns encoders and heads; of a transformer its blocks, which are alike and compiled once, since methods ask it
    for tokens, too."""
    for child in module.children():
        if isinstance(child, Networks | nn.ModuleList):
            yield from _units(child)
        elif isinstance(child, Encoder):
            yield from child.units()
        elif any(True for _ in child.parameters()):
            yield child
