"""A temperature that is learned with the weights."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor, nn


class Temperature(nn.Module):
    """A temperature τ = exp(-θ) of cosines with a learned θ (Radford et al. 2021, section 2.5)."""

    def __init__(self, start: float, least: float = 0.01) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.full((1,), -log(start)))  # θ; sharding needs a dimension
        self.least = least

    def forward(self) -> Tensor:
        """Returns τ, ()."""
        return (-self.log_scale).exp().squeeze()

    @torch.no_grad()
    def limit_(self) -> None:
        """Brings a temperature below the least one up to it."""
        self.log_scale.clamp_(max=-log(self.least))
