"""What is watched of networks while they are trained, beside their embeddings."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sanslabel.distributed import full_tensor, local_tensor
from sanslabel.engine import Player
from sanslabel.methods.method import Networks


class WeightMonitor:
    """Of networks with their first weights, and of their players."""

    def __init__(self, net: Networks, players: Mapping[str, Player]) -> None:
        self.net, self.players, self.first = net, players, _norm(net)

    def figures(self) -> dict[str, float | bool]:
        """The learning rate of the first player's first group, how the norm of all trained weights compares with that
        at the start, and whether a teacher is its student."""
        return {
            "learning_rate": next(iter(self.players.values())).optimizer.param_groups[0]["lr"],
            "weight_growth": (_norm(self.net) / self.first).item(),
            "shared_teacher": shares_weights(self.net),
        }


def shares_weights(net: Networks) -> bool:
    """Whether a weight of the teacher lies where one outside of it does, so that it is no teacher."""
    places = {True: set(), False: set()}
    for name, parameter in net.named_parameters(remove_duplicate=False):
        places[name.startswith("teacher.")].add(local_tensor(parameter).data_ptr())
    return not places[True].isdisjoint(places[False])


@torch.no_grad()
def _norm(net: nn.Module) -> Tensor:
    return full_tensor(torch.nn.utils.get_total_norm([p for p in net.parameters() if p.requires_grad]))
