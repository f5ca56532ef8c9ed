"""Optimizers as frozen dataclasses. `build` makes the torch optimizer for parameter groups.

`lr` is the learning rate that the paper states. A recipe scales it with the batch size and over time. LARS applies no
trust ratio to groups whose `adapt` is False (biases and norms).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer as TorchOptimizer

from sanslabel.distributed import is_sharded

Groups = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class SGD:
    """Stochastic gradient descent with momentum. Weight decay is added to the gradient."""

    lr: float
    momentum: float = 0.9
    weight_decay: float = 0.0
    nesterov: bool = False

    def build(self, groups: Groups) -> TorchOptimizer:
        """Returns the torch optimizer for parameter groups of `Recipe.parameter_groups`."""
        optimizer = torch.optim.SGD(
            groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov, fused=_fusible(groups)
        )
        if self.momentum:
            # The momentum starts from 0. torch would start it from the first gradient, which is equivalent. But then
            # its fused kernel fails for a parameter whose first gradient comes late, as for a head that is frozen at
            # first.
            for group in optimizer.param_groups:
                for p in group["params"]:
                    optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
        return optimizer


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    epsilon: float = 1e-8

    def build(self, groups: Groups) -> TorchOptimizer:
        """Returns the torch optimizer for parameter groups of `Recipe.parameter_groups`."""
        return torch.optim.AdamW(
            groups, lr=self.lr, betas=self.betas, eps=self.epsilon, weight_decay=0.0, fused=_fusible(groups)
        )


@dataclass(frozen=True, kw_only=True)
class LARS:
    """Layer-wise adaptive rates for large batches (You et al. 2017).

    A tensor's step is scaled by trust · ‖w‖ / ‖gradient + decay · w‖. It is not scaled if either norm is 0 or the
    group does not adapt. The variant LARC, which SwAV's authors use, divides by ‖gradient‖ + decay · ‖w‖. At their
    decay of 1e-6 the two are almost equal.
    """

    lr: float
    momentum: float = 0.9
    weight_decay: float = 0.0
    trust: float = 1e-3
    lr_in_momentum: bool = False
    """True adds each update to the momentum with the learning rate of its own step, as SimCLR's authors do. False
    applies the learning rate of the present step to the momentum"""

    def build(self, groups: Groups) -> TorchOptimizer:
        """Returns the torch optimizer for parameter groups of `Recipe.parameter_groups`."""
        defaults = dict(lr=self.lr, momentum=self.momentum, weight_decay=0.0, trust=self.trust, adapt=True)
        return _LARS(groups, defaults | dict(lr_in_momentum=self.lr_in_momentum))


Optimizer = SGD | AdamW | LARS


class _LARS(TorchOptimizer):
    @torch.no_grad()
    def step(self, closure=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            weights = [w for w in group["params"] if w.grad is not None]
            if not weights:
                continue
            updates = torch._foreach_add([w.grad for w in weights], weights, alpha=group["weight_decay"])
            if group["adapt"]:
                ratios = [
                    torch.where((norm > 0) & (length > 0), group["trust"] * norm / length, 1.0)
                    for norm, length in zip(torch._foreach_norm(weights), torch._foreach_norm(updates), strict=True)
                ]
                torch._foreach_mul_(updates, ratios)
            for w in weights:
                if "momentum_buffer" not in self.state[w]:
                    self.state[w]["momentum_buffer"] = torch.zeros_like(w)
            momenta = [self.state[w]["momentum_buffer"] for w in weights]
            before, after = (group["lr"], 1.0) if group["lr_in_momentum"] else (1.0, group["lr"])
            torch._foreach_mul_(momenta, group["momentum"])
            torch._foreach_add_(momenta, updates, alpha=before)
            torch._foreach_add_(weights, momenta, alpha=-after)


def _fusible(groups: Groups) -> bool:
    """Returns whether torch's fused kernel can update these parameters, which must not be sharded.

    With the fused kernel, AdamW on a ResNet-18 with two CPU cores takes 5 ms a step in place of 25.
    """
    tensors: list[Tensor] = [p for group in groups for p in group["params"]]
    supported = all(p.device.type in {"cpu", "cuda"} and p.is_floating_point() for p in tensors)
    return supported and not is_sharded(tensors)
