"""Decoders: networks from codes to images, in autoencoders and as generators of adversarial networks."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from sanslabel.encoders.dcgan import initialize_, kernel_size, map_sizes
from sanslabel.encoders.encoder import Encoder
from sanslabel.encoders.linear_code import LinearCode
from sanslabel.encoders.mlp import ACTIVATIONS, MLP


class Generator(nn.Module):
    """The generator of DCGAN (Radford et al. 2016). A transposed convolution makes maps of 4x4 from the code. Others of
    stride 2 enlarge them to the image, with BatchNorm and ReLU between the layers.

    code: (N, width) -> (N, channels, size, size), without bounds; the caller applies the paper's tanh.
    filters: channels of the last maps before the image; they double toward the code.
    """

    def __init__(self, width: int, channels: int, size: int, filters: int = 64) -> None:
        super().__init__()
        maps = map_sizes(size)[::-1]
        widths = [*(filters * 2**i for i in reversed(range(len(maps) - 1))), channels]
        layers: list[nn.Module] = [nn.Unflatten(1, (width, 1, 1))]
        layers.append(nn.ConvTranspose2d(width, widths[0], maps[0], bias=False))
        for (inputs, outputs), (smaller, larger) in zip(pairwise(widths), pairwise(maps), strict=True):
            layers += [nn.BatchNorm2d(inputs), nn.ReLU(inplace=True)]
            # The larger map has twice the side, or one pixel less.
            layers.append(
                nn.ConvTranspose2d(inputs, outputs, kernel_size(larger, smaller), stride=2, padding=1, bias=False)
            )
        self.layers = nn.Sequential(*layers)
        initialize_(self)

    def forward(self, code: Tensor) -> Tensor:
        return self.layers(_as_computed(code, self))


class Mirror(nn.Module):
    """The fully connected layers of an `MLP`, in reverse order.

    code: (N, width) -> (N, channels, size, size), without bounds.
    """

    def __init__(self, width: int, hidden: list[int], channels: int, size: int, activation: str) -> None:
        super().__init__()
        widths = [width, *hidden[::-1]]
        layers: list[nn.Module] = []
        for pair in pairwise(widths):
            layers += [nn.Linear(*pair), ACTIVATIONS[activation]()]
        layers += [nn.Linear(widths[-1], channels * size**2), nn.Unflatten(1, (channels, size, size))]
        self.layers = nn.Sequential(*layers)

    def forward(self, code: Tensor) -> Tensor:
        return self.layers(_as_computed(code, self))


def _as_computed(code: Tensor, module: nn.Module) -> Tensor:
    """Returns a code in the dtype in which the module's weights compute. Draws are in float32."""
    return code if torch.is_autocast_enabled(code.device.type) else code.to(next(module.parameters()).dtype)


def generator(encoder: Encoder, width: int, filters: int = 64) -> nn.Module:
    """Returns a network from codes (N, width) to images like those that the encoder reads, (N, C, H, W), without
    bounds. For an `mlp` it has the same layers in reverse order; for every other encoder it is DCGAN's generator."""
    trunk = encoder.trunk if isinstance(encoder, LinearCode) else encoder
    channels, size = trunk.config["channels"], trunk.config["image_size"]
    if isinstance(trunk, MLP):
        return Mirror(width, trunk.config["hidden"], channels, size, trunk.config["activation"])
    return Generator(width, channels, size, filters)


def decoder(encoder: Encoder, filters: int = 64) -> nn.Module:
    """Returns the generator for the encoder's representations. Those of an `mlp` are its last hidden layer."""
    if isinstance(encoder, MLP):
        *hidden, width = encoder.config["hidden"]
        return Mirror(
            width, hidden, encoder.config["channels"], encoder.config["image_size"], encoder.config["activation"]
        )
    return generator(encoder, encoder.width, filters)


def reconstruction(encoder: nn.Module, decoder: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Returns codes (N, D) of images (N, C, H, W) in [-1, 1], and reconstructions of the images. A tanh after the
    decoder brings the reconstructions to [-1, 1]."""
    code = encoder((images + 1) / 2)
    return code, decoder(code).tanh()
