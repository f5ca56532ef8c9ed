"""Tokens, and their positions in a text or in the grid of patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def at(tokens: Tensor, places: Tensor) -> Tensor:
    """Returns the tokens at these places. tokens: (N, T, D); places: (N, K) int64 -> (N, K, D)."""
    return tokens.gather(1, places[:, :, None].expand(-1, -1, tokens.shape[2]))


def sincos_positions(grid: tuple[int, int], width: int, device: torch.device | str = "cpu") -> Tensor:
    """Returns a fixed code of the position of each patch in a grid.

    grid: (h, w), the patches down and along; width: D, a multiple of 4 -> (h · w, D), row by row.
    The four quarters of the channels are the sines and the cosines of the column, then those of the row. Their
    frequencies fall from 1 toward 1/10,000. See He et al. 2022, who take the code from Vaswani et al. 2017.
    """
    height, length = grid
    frequency = 10_000 ** -(torch.arange(width // 4, device=device) / (width // 4))
    axes = torch.arange(height, device=device), torch.arange(length, device=device)
    down, along = torch.meshgrid(*axes, indexing="ij")
    angles = [place.flatten()[:, None] * frequency for place in (along, down)]  # (h · w, D / 4) each
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)


def sinusoidal_positions(length: int, width: int, start: int = 0, device: torch.device | str = "cpu") -> Tensor:
    """Returns a fixed code of each position in a sequence, whose products depend on the distance of two positions only.

    length: T; width: D, even; start: the first position -> (T, D). Channels 2i and 2i + 1 of position p are the sine
    and the cosine of p / 10,000^(2i / D). Vaswani et al. 2017, section 3.5.
    """
    frequency = 10_000 ** -(torch.arange(0, width, 2, device=device) / width)
    angles = torch.arange(start, start + length, device=device)[:, None] * frequency  # (T, D / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


class MaskToken(nn.Module):
    """A learned vector (width,) that stands in the place of all masked patches."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self) -> Tensor:
        return self.weight.clone()  # a copy, since a sharded weight is whole only in here
