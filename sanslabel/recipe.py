"""Recipes: how a method is trained, as a paper's table of hyperparameters states it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from math import sqrt
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from sanslabel.batch import Clock
from sanslabel.constraints import Bounds, Fraction, NonNegative, Positive, check_constraints
from sanslabel.inputs import DECODE_FACTOR
from sanslabel.optimizers import Groups, Optimizer
from sanslabel.schedules import cosine, inverse_square_root, step_decay, warmup_cosine

LONGEST_WARMUP = 0.3
"""largest share of a run that warm-up takes, so that a recipe for 100 epochs also serves a run of 5"""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Parameters with settings that differ from the recipe's."""

    match: str
    """pattern for parameter names, with the wildcards of file names: "predictor.*" """
    vectors: bool = False
    """True for a group that has only biases and norms, which are tensors of one dimension"""
    lr_factor: float = 1.0
    """factor of the learning rate"""
    decay_factor: float | None = None
    """factor of the weight decay, for biases and norms too; None leaves it as without the group"""
    constant: bool = False
    """True for a learning rate that stays constant"""

    def matches(self, name: str, parameter: Tensor) -> bool:
        """Returns whether the parameter of this name is in the group."""
        return fnmatch(name, self.match) and not (self.vectors and parameter.ndim > 1)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything about training that is not the method's computation."""

    optimizer: Optimizer | Mapping[str, Optimizer]
    """one optimizer for all parameters, or one for each player by the player's name"""
    epochs: Annotated[int, Positive]
    batch: Annotated[int, Positive] = 256
    """samples in a step, over all processes"""
    encoder: str | Mapping[str, Any] = "conv"
    """a name, or a name with options, such as {"name": "mlp", "hidden": [128, 128]}"""
    decode_factor: Annotated[float, Bounds(least=1)] = DECODE_FACTOR
    """the side to which larger pictures of files are reduced, as a factor of the image size; 4.1 leaves enough pixels
    for crops of 8 % of the area"""
    scaling: Literal["linear", "sqrt", "none"] = "none"
    """factor of the learning rate for a batch size: batch / 256, sqrt(batch) or 1"""
    warmup: Annotated[float, NonNegative] = 0.0
    """epochs during which the learning rate rises linearly"""
    warmup_start: Annotated[float, NonNegative] = 0.0
    """factor of the learning rate at the start of warm-up"""
    final_lr_factor: Annotated[float, NonNegative] = 0.0
    """factor of the learning rate at the end of the cosine"""
    milestones: Annotated[tuple[float, ...], Fraction] = ()
    """shares of the run, after each of which the learning rate falls to a tenth; they replace the cosine"""
    inverse_square_root: bool = False
    """True for a learning rate that falls with the square root of the steps after warm-up, in place of the cosine"""
    final_decay: Annotated[float | None, NonNegative] = None
    """weight decay at the end of its cosine; None keeps it constant"""
    decay_all: bool = False
    """True if biases and norms also get weight decay"""
    clip: Annotated[float | None, Positive] = None
    """norm to which larger gradients are clipped"""
    clip_each: bool = False
    """True if each tensor is clipped by its own norm, and not all by their common norm"""
    groups: tuple[Group, ...] = ()
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    """hyperparameters of the method that differ from its defaults in this recipe"""

    def __post_init__(self) -> None:
        check_constraints(self, "Recipe: ")

    @property
    def optimizers(self) -> Mapping[str, Optimizer]:
        """Returns the optimizer of each player. The player "" has all of the networks."""
        return self.optimizer if isinstance(self.optimizer, Mapping) else {"": self.optimizer}

    def scale(self, batch: int) -> float:
        """Returns the factor of the learning rate for a batch of this size."""
        return {"linear": batch / 256, "sqrt": sqrt(batch), "none": 1.0}[self.scaling]

    def lr_factor(self, clock: Clock) -> float:
        """Returns the factor of the learning rate at this time."""
        longest = int(LONGEST_WARMUP * clock.steps)
        warmup = min(round(self.warmup * clock.steps_per_epoch), longest)
        if self.inverse_square_root:
            return inverse_square_root(clock.step, warmup)
        if self.milestones and clock.step >= warmup:
            return step_decay(clock.progress, self.milestones)
        return warmup_cosine(clock.step, clock.steps, warmup, self.final_lr_factor, self.warmup_start)

    def decay(self, clock: Clock, start: float) -> float:
        """Returns the weight decay at this time for parameters that start with `start`. 0 stays 0."""
        return cosine(clock.progress, start, self.final_decay) if start and self.final_decay is not None else start

    def adjust_(self, optimizer: torch.optim.Optimizer, clock: Clock, scale: float = 1.0) -> None:
        """Sets the learning rates and weight decay of this time in groups made by `parameter_groups`."""
        factor = self.lr_factor(clock)
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * scale * (1.0 if group["constant"] else factor)
            group["weight_decay"] = self.decay(clock, group["base_decay"])

    def parameter_groups(self, player: nn.Module, optimizer: Optimizer) -> Groups:
        """Returns the player's trainable parameters as groups for its optimizer.

        Parameters that match one of the recipe's groups form groups of their own. Biases and norms (tensors of one
        dimension) get neither weight decay nor LARS's trust ratio, unless `decay_all`; a group's `decay_factor` decides
        about its weight decay.
        """
        by_settings: dict[tuple[int, bool], list[Tensor]] = {}
        for name, parameter in player.named_parameters():
            if parameter.requires_grad:
                matched = next((i for i, group in enumerate(self.groups) if group.matches(name, parameter)), -1)
                adapt = self.decay_all or parameter.ndim > 1
                by_settings.setdefault((matched, adapt), []).append(parameter)
        settings = (*self.groups, Group(match="*"))  # the last one for those that match none, at index -1
        return [
            {
                "params": parameters,
                "adapt": adapt,
                "base_lr": optimizer.lr * (group := settings[matched]).lr_factor,
                "base_decay": optimizer.weight_decay * (adapt if group.decay_factor is None else group.decay_factor),
                "constant": group.constant,
            }
            for (matched, adapt), parameters in by_settings.items()
        ]
