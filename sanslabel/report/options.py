"""The choices that a report leaves to its caller."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class Options:
    """Choices for the maps and samples of a report."""

    data: str | None
    """images of the maps; None means those that each run was trained on"""
    points: int
    """images in each map, at most"""
    seed: int
    """seed that draws these images and the samples"""
    device: torch.device
    """device that encoders run on"""
