"""The training loop: a generator that serves all methods.

It minimizes the objectives that a method's `step` yields, and yields a `Record` for each batch. Logging, checkpoints
and progress are plain code in the caller's `for record in optimize(...)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from sanslabel.batch import Batch, Clock
from sanslabel.device import autocast
from sanslabel.distributed import all_true, average_, full_tensor, is_sharded
from sanslabel.methods.method import Method, Networks, Objective, Refused
from sanslabel.recipe import Recipe
from sanslabel.stopwatch import timed, timed_waiting


class Record(NamedTuple):
    """One pass of a method over a batch."""

    clock: Clock
    batch: Batch
    objectives: list[Objective]
    """the objectives in their order, without graphs"""
    norms: list[Tensor]
    """(), the norm of each objective's gradient before clipping"""
    refused: bool
    """True if a loss or gradient was not finite: the rest of the pass was dropped"""


@dataclass(frozen=True)
class Player:
    """Parameters of the networks, the optimizer that moves them, and the recipe that schedules it."""

    parameters: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    recipe: Recipe
    scale: float
    """the factor of the learning rate for the size of the batch"""

    def descend(self, loss: Tensor, clock: Clock) -> tuple[Tensor, bool]:
        """Takes an optimizer step on the loss, if the loss and its gradient are finite.

        Returns the gradient's norm, and whether the parameters were moved. `backward(inputs=…)` keeps one player's loss
        out of another's gradients.
        """
        self.optimizer.zero_grad(set_to_none=True)
        # Sharded weights are not leaves of the graph, so they cannot be `inputs`, and a loss gives gradients to other
        # players, too. The line above drops those gradients before their player uses them.
        sharded = is_sharded(self.parameters)
        with timed("backward"):
            loss.backward(inputs=None if sharded else self.parameters)
            gradients = [p.grad for p in self.parameters if p.grad is not None]
            if not sharded:
                average_(gradients)
            norm = full_tensor(get_total_norm(gradients))
            finite = bool(all_true(torch.isfinite(loss.detach() + norm)))  # the one wait for the device in a step
        if finite:
            with timed("update"):
                self._update(norm, clock)
        return norm, finite

    def _update(self, norm: Tensor, clock: Clock) -> None:
        if (limit := self.recipe.clip) is not None:
            if self.recipe.clip_each:
                for p in self.parameters:
                    if p.grad is not None:
                        clip_grads_with_norm_(p, limit, get_total_norm([p.grad]))
            else:
                clip_grads_with_norm_(self.parameters, limit, norm)
        self.recipe.adjust_(self.optimizer, clock, self.scale)
        self.optimizer.step()


def players_of(net: Networks, recipe: Recipe, batch: int) -> dict[str, Player]:
    """Returns the recipe's players by name. The player "" has all of the networks.

    batch: the samples in a step, over all processes.
    """
    players = {}
    for name, optimizer in recipe.optimizers.items():
        groups = recipe.parameter_groups(net.get_submodule(name), optimizer)
        parameters = [p for group in groups for p in group["params"]]
        players[name] = Player(parameters, optimizer.build(groups), recipe, recipe.scale(batch))
    return players


def optimize(
    method: Method,
    net: Networks,
    players: Mapping[str, Player],
    batches: Iterable[tuple[Clock, Batch]],
    precision: torch.dtype = torch.float32,
) -> Iterator[Record]:
    """Trains `net` in place, and yields a record for each batch. Below float32 the method's step runs under autocast;
    losses and updates stay in float32."""
    # On the CPU, only the default generator is seeded. torch.manual_seed would record the stack of calls for each
    # unused accelerator. This takes 0.4 ms, more than everything here besides forward, backward and update.
    statistics = _Statistics(net)
    for clock, batch in timed_waiting(batches):
        batch, device = batch._replace(dtype=precision), batch.device
        seed = torch.default_generator.manual_seed if device.type == "cpu" else torch.manual_seed
        seed(clock.key)  # so that dropout and its like depend on the step alone
        objectives: list[Objective] = []
        norms: list[Tensor] = []
        refused = False
        step = method.step(net, batch, clock)
        while not refused:
            with timed("forward"):
                statistics.save()
                with autocast(device, precision):
                    objective = next(step, None)
            if objective is None:
                break
            norm, moved = players[objective.player].descend(objective.loss, clock)
            objectives.append(_without_graph(objective))
            norms.append(norm)
            if not moved:
                refused = True
                with suppress(Refused, StopIteration):
                    step.throw(Refused)  # pyright: ignore[reportAttributeAccessIssue]
                statistics.restore()
        yield Record(clock, batch, objectives, norms, refused)


def _without_graph(objective: Objective) -> Objective:
    return objective._replace(
        loss=objective.loss.detach(),
        terms={k: v.detach() for k, v in objective.terms.items()},
        embedding=None if objective.embedding is None else objective.embedding.detach(),
        positive=None if objective.positive is None else objective.positive.detach(),
        generated=None if objective.generated is None else tuple(image.detach() for image in objective.generated),
        images={k: v.detach() for k, v in objective.images.items()},
    )


class _Statistics:
    """The running statistics of BatchNorm, which a forward pass moves before its loss is known to be finite."""

    def __init__(self, net: nn.Module) -> None:
        norms = [m for m in net.modules() if isinstance(m, _BatchNorm)]
        self.live = [b for m in norms for b in m.buffers()]
        self.copies = [b.clone() for b in self.live]

    def save(self) -> None:
        """Keeps a copy of the present statistics."""
        if self.live:
            torch._foreach_copy_(self.copies, self.live)

    def restore(self) -> None:
        """Restores the statistics from the copy."""
        if self.live:
            torch._foreach_copy_(self.live, self.copies)
