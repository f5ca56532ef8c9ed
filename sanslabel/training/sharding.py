"""Weights, gradients and optimizer state in parts, one on each process, for networks that are too large for one.

What does it is torch's FSDP2; its modules take a second to import, and are where they are used.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Set
from typing import Any, cast

import torch
from torch import Tensor, nn

from sanslabel.distributed import full_tensor, is_sharded, rank, world_size
from sanslabel.encoders import Encoder
from sanslabel.methods.method import Networks


def shard_(net: Networks, device: torch.device) -> None:
    """Splits every parameter over the processes: each holds its part, and the whole of a block only while that
    computes. Gradients arrive averaged. On one process nothing changes."""
    if world_size() == 1:
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    # It warns of what views may come to; no output of a unit is changed in place here, but by ReLU after a layer's own.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(device.type, (world_size(),))
    for unit in list(_units(net)):
        fully_shard(unit, mesh=mesh, reshard_after_forward=True)  # also of a teacher, which has no backward pass
        for method in unit.entry_points if isinstance(unit, Encoder) else ():  # its own parameters are read there
            register_fsdp_forward_method(unit, method)


def _units(module: nn.Module, blocks: Set[nn.Module] = frozenset()) -> Iterator[nn.Module]:
    """Yields what is always called as a whole: blocks and layers of encoders, and heads. An encoder that has parameters
    beside them comes after them. `blocks` are the units of the encoder that the module belongs to."""
    if isinstance(module, Encoder):
        blocks = set(module.units())
    for child in module.children():
        opened = isinstance(child, Networks | Encoder | nn.ModuleList) or not blocks.isdisjoint(child.children())
        if opened and child not in blocks:
            yield from _units(child, blocks)
        elif any(True for _ in child.parameters()):
            yield child
    if isinstance(module, Encoder) and any(True for _ in module.parameters(recurse=False)):
        yield module


def gathered(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """All tensors whole, in the first process's main memory; the others get none. One after the other, so that no
    device holds them all. As they are where none lies in parts."""
    if not is_sharded(tensors.values()):
        return tensors
    found = {}
    for name, tensor in tensors.items():
        full = full_tensor(tensor)  # all must ask
        if rank() == 0:
            found[name] = full.cpu()
    return found


def lying_like(tensor: Tensor, other: Tensor) -> Tensor:
    """The tensor in parts where the other one lies so."""
    if not is_sharded([other]):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    of = cast(Any, other)
    return distribute_tensor(tensor.detach().to(other.device), of.device_mesh, of.placements)
