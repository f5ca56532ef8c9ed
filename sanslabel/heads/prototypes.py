"""Vectors that embeddings are compared with by their cosine."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize


class Prototypes(nn.Module):
    """Vectors of unit length that embeddings are compared with: the scores are cosines.

    z: (N, D), normalized inside -> (N, count), in float32 also under autocast: divided by a temperature of 0.05, what
    bfloat16 rounds away would change a softmax by a tenth.
    """

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, width))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)  # of a linear layer in torch
        self.normalize_()

    def forward(self, z: Tensor, frozen: bool = False) -> Tensor:
        """frozen: whether the gradient passes the prototypes by, as it does in the first epochs of SwAV."""
        with torch.autocast(z.device.type, enabled=False):
            z = normalize(z.to(self.weight.dtype), dim=-1)
            return linear(z, self.weight.detach() if frozen else self.weight)

    @torch.no_grad()
    def normalize_(self) -> None:
        """Brings the rows back to unit length, after an update."""
        self.weight.copy_(normalize(self.weight, dim=1))


class Directions(nn.Module):
    """Vectors that embeddings are compared with and whose lengths do not count: weight normalization with length 1. The
    scores are cosines, as those of `Prototypes`, but it is the gradient that is projected, not the weights.

    z: (N, D), normalized inside -> (N, count), in float32 also under autocast.
    """

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, width))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)  # of a linear layer in torch

    def forward(self, z: Tensor, frozen: bool = False) -> Tensor:
        """frozen: whether the gradient passes the vectors by, as it does in the first epochs of DINO."""
        with torch.autocast(z.device.type, enabled=False):
            weight = self.weight.detach() if frozen else self.weight
            z = z if z.dtype == weight.dtype else z.float()
            return linear(normalize(z, dim=-1), normalize(weight, dim=1))
