"""The loop: one for all methods, and itself a generator.

It takes what a method's `step` yields, descends it, and hands a `Record` on. Logging, checkpoints and progress are
plain code in the `for record in optimize(...)` of whoever trains.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from sanslabel.batch import Batch, Clock
from sanslabel.device import autocast
from sanslabel.distributed import all_true, average_, full_tensor, is_sharded
from sanslabel.methods.method import Method, Networks, Objective
from sanslabel.recipe import Recipe
from sanslabel.stopwatch import timed, timed_waiting


class Record(NamedTuple):
    """One pass of a method over a batch."""

    clock: Clock
    batch: Batch
    objectives: list[Objective]
    """as yielded, without their graphs"""
    norms: list[Tensor]
    """(), of each objective's gradient before clipping"""
    refused: bool
    """whether a loss or gradient was not finite: the rest of the pass was dropped"""


@dataclass(frozen=True)
class Player:
    """A part of the networks, the optimizer that moves it and the recipe that says how."""

    parameters: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    recipe: Recipe
    scale: float
    """of the learning rate, for the batch"""

    def descend(self, loss: Tensor, clock: Clock) -> tuple[Tensor, bool]:
        """Moves the parameters down the loss, unless it or its gradient is not finite. The gradient's norm and whether
        they were moved. `backward(inputs=…)` keeps one player's loss out of another's gradients."""
        self.optimizer.zero_grad(set_to_none=True)
        # Weights that lie in parts are no leaves of the graph; what then reaches other players is dropped by the line
        # above before it is theirs to use.
        parted = is_sharded(self.parameters)
        with timed("backward"):
            loss.backward(inputs=None if parted else self.parameters)
            gradients = [p.grad for p in self.parameters if p.grad is not None]
            if not parted:
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
    """The recipe's players over the networks, for a global batch of this size; "" is all of the networks."""
    found = {}
    for name, optimizer in recipe.optimizers.items():
        groups = recipe.parameter_groups(net.get_submodule(name), optimizer)
        parameters = [p for group in groups for p in group["params"]]
        found[name] = Player(parameters, optimizer.build(groups), recipe, recipe.scale(batch))
    return found


def optimize(
    method: Method,
    net: Networks,
    players: Mapping[str, Player],
    batches: Iterable[tuple[Clock, Batch]],
    precision: torch.dtype = torch.float32,
) -> Iterator[Record]:
    """Trains `net` in place, a record for each batch. Below float32 the method's step runs under autocast; losses and
    updates stay in float32."""
    # On a processor one generator draws. torch's own function would note the stack of calls for each accelerator that
    # nobody has used yet: 0.4 ms, more than all else that is done here besides forward, backward and update.
    statistics = _Statistics(net)
    for clock, batch in timed_waiting(batches):
        batch, device = batch._replace(dtype=precision), batch.device
        seed = torch.default_generator.manual_seed if device.type == "cpu" else torch.manual_seed
        seed(clock.key)  # dropout and its like: a function of the step, too
        objectives: list[Objective] = []
        norms: list[Tensor] = []
        refused = False
        step = method.step(net, batch, clock)
        while not refused:
            with timed("forward"):
                statistics.keep()
                with autocast(device, precision):
                    objective = next(step, None)
            if objective is None:
                break
            norm, moved = players[objective.player].descend(objective.loss, clock)
            objectives.append(_without_graph(objective))
            norms.append(norm)
            if not moved:
                refused = True
                step.close()  # pyright: ignore[reportAttributeAccessIssue]
                statistics.put_back()
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
    """BatchNorm's running statistics, which a forward pass moves before its loss is known to be finite."""

    def __init__(self, net: nn.Module) -> None:
        norms = [m for m in net.modules() if isinstance(m, _BatchNorm)]
        self.live = [b for m in norms for b in m.buffers()]
        self.kept = [b.clone() for b in self.live]

    def keep(self) -> None:
        if self.live:
            torch._foreach_copy_(self.kept, self.live)

    def put_back(self) -> None:
        if self.live:
            torch._foreach_copy_(self.live, self.kept)
