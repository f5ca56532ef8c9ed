"""What all encoders have in common: the contract, and how images are scaled on their way in."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sanslabel.encoders.patches import Patches, patches, standardized
from sanslabel.errors import BadInput

Scaling = Sequence[Sequence[float]]
"""(mean, std), each one number per channel, for images in [0, 1]"""


class Encoder(nn.Module, ABC):
    """Images (N, C, H, W), floats in [0, 1], in; one vector each, (N, width), out."""

    smallest: ClassVar[int] = 8
    """side of the images that it can be built for, in pixels"""
    signed: ClassVar[bool] = False
    """whether a run that says nothing of scaling brings images to [-1, 1], and not to mean 0 and deviation 1"""

    scaling: Tensor | None

    def __init__(
        self, config: dict[str, Any], width: int, scaling: Scaling | None, patches: Sequence[int] | None = None
    ):
        super().__init__()
        checked = None if scaling is None else _checked(scaling, config["channels"])
        self.config: dict[str, Any] = config | {"scaling": checked}
        """What JSON can hold and `build(**config)` makes the same architecture from"""
        self.width = width
        self.patches: Patches | None = None
        if patches is not None:
            if isinstance(patches, int | str) or len(patches) != 2:
                raise BadInput(
                    f"patches is {patches}: give (size, stride), the pixels of a patch and from one to the next."
                )
            self.read_patches_(*patches)
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

    def forward(self, images: Tensor, keep: Tensor | None = None, patch: int | None = None) -> Tensor:
        """The representation, (N, width): of the whole images, or where the encoder reads patches, the mean over those.

        keep, patch: of a view whose patches are masked, those that are left (see `views.Seen`). Transformers drop the
            others; here they are the pixels that the view has filled, and both arguments go unread.
        """
        return self.whole(images) if self.patches is None else self.over_patches(images)

    def whole(self, images: Tensor) -> Tensor:
        """The representation of whole images, also where `forward` reads patches."""
        return self.pooled(self.stages(images)[-1])

    def over_patches(self, images: Tensor) -> Tensor:
        """The mean representation of an image's patches, each standardized by itself. An image that is one patch is
        read as it is, so that training hands patches in as images."""
        assert self.patches is not None
        size, stride = self.patches
        if images.shape[-1] == images.shape[-2] == size:
            return self.whole(images)
        parts = standardized(patches(images, size, stride))  # (N, P, C, size, size)
        return self.whole(parts.flatten(0, 1)).unflatten(0, parts.shape[:2]).mean(dim=1)

    def read_patches_(self, size: int, stride: int) -> None:
        """Makes the mean over patches the representation from now on: of methods that train on patches. Configuration,
        not state."""
        self.patches = Patches(size, stride)
        self.config["patches"] = [size, stride]

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
