"""Learned vectors whose cosines with embeddings are scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize


class Prototypes(nn.Module):
    """Learned vectors of unit length, whose cosines with embeddings are scores.

    z: (N, D), normalized inside -> (N, count), in float32 also under autocast: at a temperature of 0.05, rounding to
    bfloat16 would change a softmax by a tenth.
    """

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, width))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)  # as torch initializes a linear layer
        self.normalize_()

    def forward(self, z: Tensor, frozen: bool = False) -> Tensor:
        """Returns the cosines. frozen: no gradient reaches the prototypes, as in the first epochs of SwAV."""
        with torch.autocast(z.device.type, enabled=False):
            z = normalize(z.to(self.weight.dtype), dim=-1)
            return linear(z, self.weight.detach() if frozen else self.weight)

    @torch.no_grad()
    def normalize_(self) -> None:
        """Gives each prototype unit length again, after an update."""
        self.weight.copy_(normalize(self.weight, dim=1))


class Directions(nn.Module):
    """Learned directions, whose cosines with embeddings are scores: weight normalization with length 1. Unlike those of
    `Prototypes`, these weights may have any length, and the gradient passes through their normalization.

    z: (N, D), normalized inside -> (N, count), in float32 also under autocast.
    """

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, width))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)  # as torch initializes a linear layer

    def forward(self, z: Tensor, frozen: bool = False) -> Tensor:
        """Returns the cosines. frozen: no gradient reaches the directions, as in the first epochs of DINO."""
        with torch.autocast(z.device.type, enabled=False):
            weight = self.weight.detach() if frozen else self.weight
            z = z if z.dtype == weight.dtype else z.float()
            return linear(normalize(z, dim=-1), normalize(weight, dim=1))
