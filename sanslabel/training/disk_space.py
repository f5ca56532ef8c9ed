"""The disk space that a run's checkpoints will take."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch

from sanslabel.checkpoint import checkpoints
from sanslabel.distributed import local_tensor
from sanslabel.engine import Player
from sanslabel.errors import DiskError
from sanslabel.methods.method import Networks

MOST = 3
"""the most checkpoints on the disk: two, and the one that is being written"""


def check_disk_space(run: Path, net: Networks, players: Mapping[str, Player]) -> None:
    """Raises DiskError if no checkpoint fits on the disk. Warns if some fit, but fewer than the run still needs."""
    size = checkpoint_bytes(net, players)
    needed = max(1, MOST - len(checkpoints(run / "checkpoints"))) * size
    free = shutil.disk_usage(run).free
    if free < size:
        raise DiskError(
            f"{run}: a checkpoint takes {_readable(size)} and the disk has {_readable(free)} left; free some space, or"
            " choose another --out."
        )
    if free < needed:
        warnings.warn(
            f"{run}: the checkpoints will take {_readable(needed)} more and the disk has {_readable(free)} left",
            stacklevel=3,
        )


def checkpoint_bytes(net: Networks, players: Mapping[str, Player]) -> int:
    """Returns the size of a checkpoint in bytes: the networks, and the full state of the optimizers."""
    networks = {local_tensor(value).data_ptr(): value.nbytes for value in net.state_dict().values()}
    memories = sum(
        parameter.nbytes * (2 if isinstance(player.optimizer, torch.optim.AdamW) else 1)  # two moments, or a momentum
        for player in players.values()
        for parameter in player.parameters
    )
    return sum(networks.values()) + memories


def _readable(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
