"""How a method is trained, apart from what it computes: a recipe is what a paper's table of hyper-parameters says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from math import sqrt
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sanslabel.batch import Clock
from sanslabel.optimizers import Groups, Optimizer
from sanslabel.schedules import cosine, step_decay, warmup_cosine

LONGEST_WARMUP = 0.3
"""Warm-up never takes a larger part of a run than this, so that a recipe for 100 epochs also serves a run of 5."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Parameters that are descended in a way of their own."""

    match: str
    """a pattern for parameter names, with the wildcards of file names: "predictor.*" """
    vectors: bool = False
    """whether only biases and norms are meant, tensors of one dimension"""
    lr_factor: float = 1.0
    """of the learning rate"""
    constant: bool = False
    """whether the schedule leaves the rate alone"""

    def holds(self, name: str, parameter: Tensor) -> bool:
        """Whether the parameter of this name is one of the group's."""
        return fnmatch(name, self.match) and not (self.vectors and parameter.ndim > 1)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    optimizer: Optimizer | Mapping[str, Optimizer]
    """one for all parameters, or one for each player by its name"""
    epochs: int
    batch: int = 256
    """samples in one step, over all processes"""
    encoder: str | Mapping[str, Any] = "conv"
    """a name, or a name with options: {"name": "mlp", "hidden": [128, 128]}"""
    scaling: Literal["linear", "sqrt", "none"] = "none"
    """how the rate grows with the batch: batch/256, sqrt(batch) or not at all"""
    warmup: float = 0.0
    """epochs during which the rate rises in a line"""
    warmup_start: float = 0.0
    """the part of the rate that it rises from"""
    final_lr_factor: float = 0.0
    """the part of the rate that is left at the end of the cosine"""
    milestones: tuple[float, ...] = ()
    """parts of the run after each of which the rate falls to a tenth, in the place of the cosine"""
    final_decay: float | None = None
    """weight decay at the end of a cosine; None keeps it constant"""
    decay_all: bool = False
    """whether biases and norms decay, too"""
    clip: float | None = None
    """the largest norm of the gradient"""
    clip_each: bool = False
    """whether that norm is taken of each tensor, not of all together"""
    groups: tuple[Group, ...] = ()
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    """the method's numbers that go with this recipe, where they differ from its defaults"""

    @property
    def optimizers(self) -> Mapping[str, Optimizer]:
        """By player; the player "" is all of the networks."""
        return self.optimizer if isinstance(self.optimizer, Mapping) else {"": self.optimizer}

    def scale(self, batch: int) -> float:
        """The factor of the rate that a batch of this size brings."""
        return {"linear": batch / 256, "sqrt": sqrt(batch), "none": 1.0}[self.scaling]

    def lr_factor(self, clock: Clock) -> float:
        """The factor of the rate at this time."""
        longest = int(LONGEST_WARMUP * clock.steps)
        warmup = min(round(self.warmup * clock.steps_per_epoch), longest)
        if self.milestones and clock.step >= warmup:
            return step_decay(clock.progress, self.milestones)
        return warmup_cosine(clock.step, clock.steps, warmup, self.final_lr_factor, self.warmup_start)

    def decay(self, clock: Clock, start: float) -> float:
        """The weight decay at this time, of parameters that start with `start`; who starts with none keeps none."""
        return cosine(clock.progress, start, self.final_decay) if start and self.final_decay is not None else start

    def adjust_(self, optimizer: torch.optim.Optimizer, clock: Clock, scale: float = 1.0) -> None:
        """Gives the optimizer's groups, of `parameter_groups`, the rates and the decay of this time."""
        factor = self.lr_factor(clock)
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * scale * (1.0 if group["constant"] else factor)
            group["weight_decay"] = self.decay(clock, group["base_decay"])

    def parameter_groups(self, player: nn.Module, optimizer: Optimizer) -> Groups:
        """The player's trainable parameters, in groups of equal treatment: matched groups apart, and biases and norms
        (tensors of one dimension) without decay and without LARS's trust ratio unless `decay_all`."""
        by_treatment: dict[tuple[int, bool], list[Tensor]] = {}
        for name, parameter in player.named_parameters():
            if parameter.requires_grad:
                matched = next((i for i, group in enumerate(self.groups) if group.holds(name, parameter)), -1)
                adapt = self.decay_all or parameter.ndim > 1
                by_treatment.setdefault((matched, adapt), []).append(parameter)
        everything = Group(match="*")
        return [
            {
                "params": parameters,
                "adapt": adapt,
                "base_lr": optimizer.lr * (self.groups[matched] if matched >= 0 else everything).lr_factor,
                "base_decay": optimizer.weight_decay if adapt else 0.0,
                "constant": matched >= 0 and self.groups[matched].constant,
            }
            for (matched, adapt), parameters in by_treatment.items()
        ]
