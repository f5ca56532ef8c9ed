"""The choices that a report leaves to its caller."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
    folder: Path
    """folder of the page, from which it links to the files of pictures"""
    thumbnail_bytes: int
    """bytes of the thumbnails of each map, about"""
