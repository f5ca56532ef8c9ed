"""Dropout whose mask is drawn for the global batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sanslabel.distributed import local_slice, world_size


class Dropout(nn.Module):
    """Dropout: in training, each value becomes 0 with a given probability, and the others are scaled to keep the mean.
    The mask is drawn for the global batch, so that any number of processes drop the same values. (N, D) -> (N, D)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return x
        drawn = torch.rand(len(x) * world_size(), *x.shape[1:], device=x.device)
        stays = local_slice(drawn) >= self.probability
        return torch.where(stays, x / max(1 - self.probability, 1e-6), 0)
