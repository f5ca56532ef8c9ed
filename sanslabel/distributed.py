"""The batch across processes; on one process every function is the identity.

Process r holds the contiguous slice r of the global batch. `gather` makes the global tensor of the local ones, with a
gradient; `shard` is its inverse. Every process computes the loss of the whole batch from gathered values, and parameter
gradients are averaged: k processes then give the loss and gradient of one.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, local: Tensor) -> Tensor:
        parts = [torch.empty_like(local) for _ in range(world_size())]
        dist.all_gather(parts, local.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:
        # Every process differentiates its own copy of the global loss by all rows: the slice needs their sum.
        (grad,) = grads
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return shard(grad)


def gather(local: Tensor) -> Tensor:
    """(N, ...) of each process -> (N · processes, ...), in the order of the global batch, differentiable."""
    return local if world_size() == 1 else _Gather.apply(local)  # pyright: ignore[reportReturnType]


def shard(whole: Tensor) -> Tensor:
    """(N · processes, ...) -> this process's (N, ...)."""
    return whole.chunk(world_size())[rank()]


def mean(local: Tensor) -> Tensor:
    """The mean over processes of a value that needs no gradient."""
    if world_size() == 1:
        return local
    total = local.detach().clone()
    dist.all_reduce(total)
    return total / world_size()


@torch.no_grad()
def standardized(local: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Every entry with mean 0 and variance 1 over the samples of the global batch; without a gradient.

    local: (N, ...) -> (N, ...), float32; the variance without correction. epsilon keeps constant entries at 0.
    """
    local = local.float()
    centered = local - mean(local.mean(dim=0))
    return centered / (mean(centered.square().mean(dim=0)) + epsilon).sqrt()


def everywhere(flag: Tensor) -> Tensor:
    """() bool: whether the flag is set on all processes."""
    if world_size() == 1:
        return flag
    lowest = flag.to(torch.int32)
    dist.all_reduce(lowest, op=dist.ReduceOp.MIN)
    return lowest.bool()
