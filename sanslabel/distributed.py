"""The batch across processes. On one process every function is the identity.

Process r has the contiguous slice r of the global batch. `gather` makes the global tensor from the local ones, with a
gradient, and `local_slice` is its inverse. Every process computes the loss of the global batch from gathered values,
and parameter gradients are averaged. So k processes give the same loss and gradient as one process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from sanslabel.errors import SanslabelError

T = TypeVar("T")
BUCKET = 1 << 24
"""numbers in one message when gradients are averaged, 64 MiB"""


def world_size() -> int:
    """Returns the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Returns the number of this process. Process 0 is the only one that writes files."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def is_sharded(tensors: Iterable[Tensor]) -> bool:
    """Returns whether any of the tensors is sharded over several processes, as torch's DTensors are."""
    # The module of DTensor is slow to import, so its method is looked for in place of its class.
    return any(hasattr(tensor, "full_tensor") for tensor in tensors)


def full_tensor(tensor: Tensor) -> Tensor:
    """Returns the full tensor on each process; a tensor that is not sharded is its own full tensor. All processes must
    call this function."""
    return cast(Any, tensor).full_tensor() if is_sharded([tensor]) else tensor


def local_tensor(tensor: Tensor) -> Tensor:
    """Returns this process's slice of a sharded tensor, or the tensor itself if it is not sharded."""
    return cast(Any, tensor).to_local() if is_sharded([tensor]) else tensor


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, local: Tensor) -> Tensor:
        local = local.contiguous()
        slices = [torch.empty_like(local) for _ in range(world_size())]
        dist.all_gather(slices, local)
        return torch.cat(slices)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:
        # Every process has a gradient for all rows, from its copy of the global loss. A slice needs the sum of these
        # gradients.
        (grad,) = grads
        total = grad.clone(memory_format=torch.contiguous_format)  # a copy, since autograd may share the tensor
        dist.all_reduce(total)
        return local_slice(total)


def gather(local: Tensor) -> Tensor:
    """Returns the tensors of all processes in the order of the global batch, with a gradient.

    local: (N, ...) -> (N · processes, ...).
    """
    return local if world_size() == 1 else _Gather.apply(local)  # pyright: ignore[reportReturnType]


def local_slice(full: Tensor) -> Tensor:
    """Returns this process's slice of a global tensor: (N · processes, ...) -> (N, ...)."""
    return full.chunk(world_size())[rank()]


def all_reduce_mean(local: Tensor) -> Tensor:
    """Returns the mean of a tensor over processes, without a gradient."""
    if world_size() == 1:
        return local
    total = local.detach().clone()
    dist.all_reduce(total)
    return total / world_size()


@torch.no_grad()
def average_(tensors: Sequence[Tensor]) -> None:
    """Replaces each tensor by its mean over processes. All tensors must have the same dtype and device."""
    if world_size() == 1:
        return
    begin = 0
    while begin < len(tensors):
        end, count = begin + 1, tensors[begin].numel()
        while end < len(tensors) and count + tensors[end].numel() <= BUCKET:
            count, end = count + tensors[end].numel(), end + 1
        bucket = tensors[begin:end]
        flat = _flatten_dense_tensors(bucket)
        dist.all_reduce(flat)
        torch._foreach_copy_(list(bucket), list(_unflatten_dense_tensors(flat / world_size(), bucket)))
        begin = end


@torch.no_grad()
def standardized(local: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Returns a tensor whose entries have mean 0 and variance 1 over the samples of the global batch.

    local: (N, ...) -> (N, ...), float32, without a gradient. The variance is uncorrected, and epsilon keeps constant
    entries at 0.
    """
    local = local.float()
    centered = local - all_reduce_mean(local.mean(dim=0))
    return centered / (all_reduce_mean(centered.square().mean(dim=0)) + epsilon).sqrt()


def all_true(flag: Tensor) -> Tensor:
    """Returns whether the flag is true on all processes, () bool -> () bool."""
    if world_size() == 1:
        return flag
    lowest = flag.to(torch.int32)
    dist.all_reduce(lowest, op=dist.ReduceOp.MIN)
    return lowest.bool()


@torch.no_grad()
def gather_ragged(local: Tensor) -> Tensor:
    """Returns the tensors of all processes as one tensor. The local tensors may differ in length.

    local: (n, ...) -> (sum of n, ...), without a gradient.
    """
    lengths = gather_objects([len(local)])
    padded = local.new_zeros(max(lengths), *local.shape[1:])
    padded[: len(local)] = local
    return torch.cat([block[:n] for block, n in zip(gather(padded).chunk(world_size()), lengths, strict=True)])


def gather_objects(items: list[T]) -> list[T]:
    """Returns the items of all processes in one list, those of process 0 first."""
    if world_size() == 1:
        return items
    lists: list[Any] = [None] * world_size()
    dist.all_gather_object(lists, items)
    return [item for items_of_process in lists for item in items_of_process]


def all_reduce_max(*values: int) -> list[int]:
    """Returns the highest value that any process has, for each of the values."""
    if world_size() == 1:
        return list(values)
    highest = torch.tensor(values)  # on the CPU, so that nobody waits for an accelerator
    dist.all_reduce(highest, op=dist.ReduceOp.MAX)
    return highest.tolist()


def on_first_process(act: Callable[..., T], *arguments: Any) -> T:
    """Calls `act(*arguments)` on the first process only, and returns its result on all of them.

    If it raises a SanslabelError, all processes raise it.
    """
    if world_size() == 1:
        return act(*arguments)
    box: list[Any] = [None, None]
    if rank() == 0:
        try:
            box = [act(*arguments), None]
        except SanslabelError as error:
            box = [None, error]
    dist.broadcast_object_list(box, device=torch.device("cpu"))
    if box[1] is not None:
        raise box[1]
    return box[0]
