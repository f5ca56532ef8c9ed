"""What all encoders have in common: the contract, and how images are scaled on their way in."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sanslabel.errors import BadInput

Scaling = Sequence[Sequence[float]]
"""(mean, std), each one number per channel, for images in [0, 1]"""


class Encoder(nn.Module, ABC):
    """Images (N, C, H, W), floats in [0, 1], in; one vector each, (N, width), out."""

    scaling: Tensor | None

    def __init__(self, config: dict[str, Any], width: int, scaling: Scaling | None):
        super().__init__()
        checked = None if scaling is None else _checked(scaling, config["channels"])
        self.config = config | {"scaling": checked}
        """What JSON can hold and `build(**config)` makes the same architecture from"""
        self.width = width
        # Scaling is configuration: it follows the module to a device and a dtype, and stays out of its state.
        values = None if checked is None else torch.tensor(checked).view(2, -1, 1, 1)
        self.register_buffer("scaling", values, persistent=False)

    @abstractmethod
    def stages(self, images: Tensor) -> list[Tensor]:
        """The representation after each stage: maps (N, C, h, w) of convnets, tokens (N, T, D) of transformers.
        `pooled` turns the last one into what `forward` returns."""

    @abstractmethod
    def pooled(self, stage: Tensor) -> Tensor:
        """The one vector per image, (N, D), of a stage."""

    def forward(self, images: Tensor) -> Tensor:
        return self.pooled(self.stages(images)[-1])

    def scaled(self, images: Tensor) -> Tensor:
        """The images with the configured mean and deviation taken out, in the dtype that the weights compute in."""
        if not images.is_floating_point():
            raise BadInput(f"The encoder was given images of {images.dtype}: give floats in [0, 1], uint8 / 255.")
        dtype = next(self.parameters()).dtype
        if images.dtype != dtype and not torch.is_autocast_enabled(images.device.type):
            images = images.to(dtype)
        if self.scaling is None:
            return images
        mean, std = self.scaling  # (C, 1, 1) each
        return (images - mean) / std


def _checked(scaling: Scaling, channels: int) -> list[list[float]]:
    """Scaling as JSON gives it back."""
    try:
        values = [list(map(float, part)) for part in scaling]
    except (TypeError, ValueError):
        values = []
    finite = all(math.isfinite(value) for part in values for value in part)
    if [len(part) for part in values] != [channels, channels] or not finite or min(values[1]) <= 0:
        raise BadInput(
            f"scaling is {scaling}: give (mean, std), each with a number for each of the {channels} channels, std > 0."
        )
    return values
