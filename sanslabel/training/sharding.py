"""Sharded networks: each process holds a slice of weights, gradients and optimizer state, for networks that are too
large for one.

This is torch's FSDP2. Its modules take a second to import, so they are imported where they are used.
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


def fully_shard_(net: Networks, device: torch.device) -> None:
    """Shards every parameter over the processes. A process has the full parameters of a block only while the block
    computes; gradients arrive averaged. With one process nothing changes."""
    if world_size() == 1:
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    # FSDP2 warns of views that are changed in place. Here only a ReLU works in place, on the output of the layer before
    # it.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(device.type, (world_size(),))
    for unit in list(_units(net)):
        fully_shard(unit, mesh=mesh, reshard_after_forward=True)  # for a teacher, too: it has no backward pass
        for method in unit.entry_points if isinstance(unit, Encoder) else ():  # these methods read its own parameters
            register_fsdp_forward_method(unit, method)


def _units(module: nn.Module, blocks: Set[nn.Module] = frozenset()) -> Iterator[nn.Module]:
    """Yields the modules that are always called as a whole: blocks and layers of encoders, and heads. An encoder that
    has further parameters follows after them.

    blocks: the units of the encoder that the module belongs to.
    """
    if isinstance(module, Encoder):
        blocks = set(module.units())
    for child in module.children():
        container = isinstance(child, Networks | Encoder | nn.ModuleList) or not blocks.isdisjoint(child.children())
        if container and child not in blocks:
            yield from _units(child, blocks)
        elif any(True for _ in child.parameters()):
            yield child
    if isinstance(module, Encoder) and any(True for _ in module.parameters(recurse=False)):
        yield module


def full_tensors(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Returns the full tensors on the first process, in main memory, and an empty mapping on the others. They are
    gathered one by one, so that no device holds them all. Tensors are returned unchanged if none is sharded."""
    if not is_sharded(tensors.values()):
        return tensors
    gathered = {}
    for name, tensor in tensors.items():
        full = full_tensor(tensor)  # every process must take part
        if rank() == 0:
            gathered[name] = full.cpu()
    return gathered


def sharded_like(tensor: Tensor, other: Tensor) -> Tensor:
    """Returns the tensor, sharded in the same way as `other`. It is unchanged if `other` is not sharded."""
    if not is_sharded([other]):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    model = cast(Any, other)
    return distribute_tensor(tensor.detach().to(other.device), model.device_mesh, model.placements)
