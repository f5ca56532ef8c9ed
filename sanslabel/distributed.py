"""The batch across processes; on one process every function is the identity.

Process r holds the contiguous slice r of the global batch. `gather` makes the global tensor of the local ones, with a
gradient; `shard` is its inverse. Every process computes the loss of the whole batch from gathered values, and parameter
gradients are averaged: k processes then give the loss and gradient of one.
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
"""numbers that travel at a time when gradients are averaged, 64 MiB"""


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """0 is the first process, the only one that writes."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def is_sharded(tensors: Iterable[Tensor]) -> bool:
    """Whether any of them lies in parts on several processes, as DTensors of torch do, whose module is slow to
    import."""
    return any(hasattr(tensor, "full_tensor") for tensor in tensors)


def full_tensor(tensor: Tensor) -> Tensor:
    """Returns the tensor itself, or all of one that is sharded, on each process; all processes must call it."""
    return cast(Any, tensor).full_tensor() if is_sharded([tensor]) else tensor


def local_tensor(tensor: Tensor) -> Tensor:
    """Returns the tensor itself, or this process's slice of one that is sharded."""
    return cast(Any, tensor).to_local() if is_sharded([tensor]) else tensor


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, local: Tensor) -> Tensor:
        local = local.contiguous()
        parts = [torch.empty_like(local) for _ in range(world_size())]
        dist.all_gather(parts, local)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:
        # Every process differentiates its own copy of the global loss by all rows: the slice needs their sum.
        (grad,) = grads
        total = grad.clone(memory_format=torch.contiguous_format)  # the same tensor may be another one's gradient, too
        dist.all_reduce(total)
        return local_slice(total)


def gather(local: Tensor) -> Tensor:
    """(N, ...) of each process -> (N · processes, ...), in the order of the global batch, differentiable."""
    return local if world_size() == 1 else _Gather.apply(local)  # pyright: ignore[reportReturnType]


def local_slice(whole: Tensor) -> Tensor:
    """(N · processes, ...) -> this process's (N, ...)."""
    return whole.chunk(world_size())[rank()]


def all_reduce_mean(local: Tensor) -> Tensor:
    """The mean over processes of a value that needs no gradient."""
    if world_size() == 1:
        return local
    total = local.detach().clone()
    dist.all_reduce(total)
    return total / world_size()


@torch.no_grad()
def average_(tensors: Sequence[Tensor]) -> None:
    """Puts the mean over processes in the place of each tensor, of one dtype and device."""
    if world_size() == 1:
        return
    begin = 0
    while begin < len(tensors):
        end, numbers = begin + 1, tensors[begin].numel()
        while end < len(tensors) and numbers + tensors[end].numel() <= BUCKET:
            numbers, end = numbers + tensors[end].numel(), end + 1
        bucket = tensors[begin:end]
        flat = _flatten_dense_tensors(bucket)
        dist.all_reduce(flat)
        torch._foreach_copy_(list(bucket), list(_unflatten_dense_tensors(flat / world_size(), bucket)))
        begin = end


@torch.no_grad()
def standardized(local: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Every entry with mean 0 and variance 1 over the samples of the global batch; without a gradient.

    local: (N, ...) -> (N, ...), float32; the variance without correction. epsilon keeps constant entries at 0.
    """
    local = local.float()
    centered = local - all_reduce_mean(local.mean(dim=0))
    return centered / (all_reduce_mean(centered.square().mean(dim=0)) + epsilon).sqrt()


def all_true(flag: Tensor) -> Tensor:
    """() bool: whether the flag is set on all processes."""
    if world_size() == 1:
        return flag
    lowest = flag.to(torch.int32)
    dist.all_reduce(lowest, op=dist.ReduceOp.MIN)
    return lowest.bool()


@torch.no_grad()
def gather_ragged(part: Tensor) -> Tensor:
    """The parts of all processes, which may differ in length, one after the other: (n, ...) -> (sum of n, ...)."""
    lengths = gather_objects([len(part)])
    padded = part.new_zeros(max(lengths), *part.shape[1:])
    padded[: len(part)] = part
    return torch.cat([rows[:n] for rows, n in zip(gather(padded).chunk(world_size()), lengths, strict=True)])


def gather_objects(items: list[T]) -> list[T]:
    """The items of all processes, those of the first one first."""
    if world_size() == 1:
        return items
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, items)
    return [item for part in found for item in part]


def all_reduce_max(*numbers: int) -> list[int]:
    """Of each number the highest that a process has."""
    if world_size() == 1:
        return list(numbers)
    found = torch.tensor(numbers)  # on the CPU, so that no accelerator is waited for
    dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return found.tolist()


def on_first_process(act: Callable[..., T], *arguments: Any) -> T:
    """What `act(*arguments)` returns on the first process, which alone calls it, on all of them; an error of this
    project is raised on all, too."""
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
