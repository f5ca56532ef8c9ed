"""The state of optimizers as named tensors, for checkpoints."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sanslabel.engine import Player
from sanslabel.methods.method import Networks
from sanslabel.training.sharding import sharded_like


def optimizer_state(net: Networks, players: Mapping[str, Player]) -> dict[str, Tensor]:
    """Returns the state of all optimizers: player/slot/parameter -> tensor."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in net.named_parameters()}
    return {
        f"{name}/{slot}/{names[parameter]}": value
        for name, player in players.items()
        for parameter, slots in player.optimizer.state.items()
        for slot, value in slots.items()
    }


def load_optimizer_state_(net: Networks, players: Mapping[str, Player], state: Mapping[str, Tensor]) -> None:
    """Loads a state that `optimizer_state` returned. Raises ValueError if it is the state of another optimizer."""
    slots: dict[tuple[str, str], dict[str, Tensor]] = defaultdict(dict)
    for key, value in state.items():
        player, slot, parameter = key.split("/")
        slots[player, parameter][slot] = value
    names = {parameter: name for name, parameter in net.named_parameters()}
    for name, player in players.items():
        _check_slots(name, player, names, slots)
    for name, player in players.items():
        content = player.optimizer.state_dict()
        content["state"] = {
            i: {slot: _formatted_like(p, value) for slot, value in slots[name, names[p]].items()}
            for i, p in enumerate(player.parameters)
            if (name, names[p]) in slots
        }
        player.optimizer.load_state_dict(content)


def _check_slots(
    name: str,
    player: Player,
    names: Mapping[nn.Parameter, str],
    slots: Mapping[tuple[str, str], Mapping[str, Tensor]],
) -> None:
    """Raises ValueError if parameters of a player have different slots, or a slot has another shape than its parameter.
    Parameters without slots, and slots that are scalars, are allowed."""
    known = {slot for (owner, _), values in slots.items() if owner == name for slot in values}
    for p in player.parameters:
        values = slots.get((name, names[p]), {})
        if values and (values.keys() != known or any(v.ndim and v.shape != p.shape for v in values.values())):
            raise ValueError(f"the optimizer state of {names[p]!r} belongs to another optimizer")


def _formatted_like(parameter: nn.Parameter, value: Tensor) -> Tensor:
    """Returns a copy of the value. If its shape is the parameter's, it gets the parameter's memory format, too: fused
    kernels need equal formats."""
    if value.shape != parameter.shape:
        return value.clone()  # a view into the file would keep it open
    return torch.empty_like(parameter).copy_(sharded_like(value, parameter))
