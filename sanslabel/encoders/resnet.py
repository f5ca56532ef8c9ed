"""Residual networks (He et al. 2016, "Deep residual learning for image recognition").

Architecture and names are torchvision's, so that weights travel both ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from sanslabel.encoders.encoder import Encoder, Scaling
from sanslabel.errors import BadInput, suggestion
from sanslabel.inputs import height_and_width


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution with padding 1, without bias.

    On maps of one pixel, the last maps of tiles and patches, only the centers of its kernels count, at any stride.
    Using only them is a ninth of the work. It also avoids a defect: for such maps, oneDNN 3.12 in bf16 leaves
    uninitialized memory in the gradient of strided kernels.
    """

    def __init__(self, channels: int, width: int, stride: int = 1):
        super().__init__(channels, width, 3, stride, padding=1, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        if input.shape[-2:] == (1, 1):
            return F.conv2d(input, self.weight[:, :, 1:2, 1:2].contiguous())  # MPS misreads non-contiguous kernels
        return super().forward(input)


class BasicBlock(nn.Module):
    """x + two 3x3 convolutions: (N, C, h, w) -> (N, width, h / stride, w / stride), rounded up."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = Conv3x3(channels, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = Conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        # In place is safe: the backward of BatchNorm reads BatchNorm's input, and that of ReLU reads ReLU's output.
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class Bottleneck(nn.Module):
    """x + 1x1, 3x3 and 1x1 convolutions, the middle one narrow: (N, C, h, w) -> (N, 4 width, h / stride, w / stride),
    rounded up. The 3x3 convolution has the stride, as in torchvision ("v1.5")."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = Conv3x3(width, width, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, self.expansion * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(self.expansion * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(channels, self.expansion * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


def shortcut(channels: int, width: int, stride: int) -> nn.Sequential | None:
    """Returns the layers that bring x to the shape of a block's output, None if it has that shape already."""
    if stride == 1 and channels == width:
        return None
    return nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))


def initialize_(module: nn.Module) -> None:
    """Initializes layers as torchvision does: convolutions keep the variance of the gradient (He et al. 2015), and
    BatchNorm has weights 1 and biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


class Shape(NamedTuple):
    """Kind of blocks, and how many of them each of the four layers has."""

    block: type[BasicBlock] | type[Bottleneck]
    depths: tuple[int, int, int, int]


SHAPES = {
    "resnet18": Shape(BasicBlock, (2, 2, 2, 2)),
    "resnet34": Shape(BasicBlock, (3, 4, 6, 3)),
    "resnet50": Shape(Bottleneck, (3, 4, 6, 3)),
}


class ResNet(Encoder):
    """ResNet-18 and -34 (width 512) and ResNet-50 (2048), global average pooling at the end.

    stem: "imagenet", a 7x7 convolution of stride 2 and a max-pool, or "small", as for CIFAR, a 3x3 convolution of
        stride 1 and no max-pool. None is "small" up to 64 pixels a side, where "imagenet" would leave maps of 2x2 or
        less.
    zero_residual: True starts each block as the identity: the weight of its last BatchNorm is 0 (Goyal et al. 2017,
        section 5.1).
    widening: factor of the channels of every layer, and so of the width.
    scaling: (mean, std) of the channels, None to take images as they are.
    patches: (size, stride) of the patches whose mean is the representation, None to read images as a whole.
    """

    names = tuple(SHAPES)
    rectangles = True

    def __init__(
        self,
        name: str,
        channels: int,
        image_size: int | tuple[int, int],
        *,
        stem: str | None = None,
        zero_residual: bool = False,
        widening: int = 1,
        scaling: Scaling | None = None,
        patches: Sequence[int] | None = None,
    ):
        if stem is None:
            stem = "small" if max(height_and_width(image_size)) <= 64 else "imagenet"
        if stem not in ("imagenet", "small"):
            raise BadInput(
                f"--encoder {name}: there is no stem {stem!r}: {suggestion(str(stem), ['imagenet', 'small'])}"
            )
        if not isinstance(widening, int) or widening < 1:
            raise BadInput(f"--encoder {name}: widening is {widening}: give a whole factor of the channels, 1 or more.")
        block, depths = SHAPES[name]
        config = {"name": name, "channels": channels, "image_size": image_size, "stem": stem}
        config |= {"zero_residual": zero_residual, "widening": widening}
        width = 64 * widening
        super().__init__(config, 8 * width * block.expansion, scaling, patches)
        if stem == "imagenet":
            self.conv1 = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        else:
            self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            self.maxpool = nn.Identity()
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _layer(block, width, width, depths[0], stride=1)
        self.layer2 = _layer(block, width * block.expansion, 2 * width, depths[1], stride=2)
        self.layer3 = _layer(block, 2 * width * block.expansion, 4 * width, depths[2], stride=2)
        self.layer4 = _layer(block, 4 * width * block.expansion, 8 * width, depths[3], stride=2)
        initialize_(self)
        if zero_residual:
            for module in self.modules():
                if isinstance(module, BasicBlock | Bottleneck):
                    nn.init.zeros_((module.bn3 if isinstance(module, Bottleneck) else module.bn2).weight)

    def stages(self, images: Tensor) -> list[Tensor]:
        """Returns five maps: that of the stem before its max-pool, and those of the four layers."""
        stem = self.relu(self.bn1(self.conv1(self.scaled(images))))
        maps = [stem]
        x = self.maxpool(stem)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return maps

    def pooled(self, stage: Tensor) -> Tensor:
        return stage.mean(dim=(2, 3))


def _layer(block: type[BasicBlock] | type[Bottleneck], channels: int, width: int, depth: int, stride: int):
    """Returns `depth` blocks, of which the first has the stride."""
    rest = [block(block.expansion * width, width, 1) for _ in range(depth - 1)]
    return nn.Sequential(block(channels, width, stride), *rest)
