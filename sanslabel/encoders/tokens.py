"""Tokens and the places that they have in the grid of patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def at(tokens: Tensor, places: Tensor) -> Tensor:
    """The tokens at these places. tokens: (N, T, D); places: (N, K) int64 -> (N, K, D)."""
    return tokens.gather(1, places[:, :, None].expand(-1, -1, tokens.shape[2]))


def sincos_positions(rows: int, columns: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """Where each patch of a grid is, in numbers that no training changes: a quarter of the channels each are sines and
    cosines of the column, and sines and cosines of the row, at frequencies from 1 down towards 1/10,000.

    (rows · columns, width), row by row; width: a multiple of 4. He et al. 2022, who take it from Vaswani et al. 2017.
    """
    frequency = 10_000 ** -(torch.arange(width // 4, device=device) / (width // 4))
    down, along = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
    angles = [place.flatten()[:, None] * frequency for place in (along, down)]  # (rows · columns, width / 4) each
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)


class MaskToken(nn.Module):
    """What all masked patches show, (width,), learned."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self) -> Tensor:
        return self.weight.clone()  # where weights lie in parts, the whole of this one is gone after this line
