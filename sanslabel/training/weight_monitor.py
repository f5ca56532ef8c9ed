"""The weights of networks while they are trained: how they grow, and whether a teacher is a copy."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sanslabel.distributed import full_tensor, local_tensor
from sanslabel.engine import Player
from sanslabel.methods.method import Networks


class WeightMonitor:
    """The figures of weights, compared with those at the start."""

    def __init__(self, net: Networks, players: Mapping[str, Player]) -> None:
        self.net, self.players, self.norm_at_start = net, players, _norm(net)

    def figures(self) -> dict[str, float | bool]:
        """Returns the learning rate, the growth of the weights, and whether a teacher shares weights with its student.
        The learning rate is that of the first player's first group. The growth is the norm of all trained weights,
        divided by that norm at the start."""
        return {
            "learning_rate": next(iter(self.players.values())).optimizer.param_groups[0]["lr"],
            "weight_growth": (_norm(self.net) / self.norm_at_start).item(),
            "shared_teacher": shares_weights(self.net),
        }


def shares_weights(net: Networks) -> bool:
    """Returns True if a weight of the teacher lies in the same memory as a weight of another network. Such a teacher is
    no separate network."""
    addresses = {True: set(), False: set()}
    for name, parameter in net.named_parameters(remove_duplicate=False):
        addresses[name.startswith("teacher.")].add(local_tensor(parameter).data_ptr())
    return not addresses[True].isdisjoint(addresses[False])


@torch.no_grad()
def _norm(net: nn.Module) -> Tensor:
    return full_tensor(torch.nn.utils.get_total_norm([p for p in net.parameters() if p.requires_grad]))
