"""The discriminator of DCGAN (Radford et al. 2016), up to its last layer."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d

from sanslabel.device import on_capable_device
from sanslabel.encoders.encoder import Encoder, Scaling
from sanslabel.errors import BadInput


def map_sizes(size: int) -> list[int]:
    """Returns the sides of the maps, halved and rounded up until the last is 4 or less: 28 -> [28, 14, 7, 4]. A
    generator has them in the opposite order."""
    sizes = [size]
    while sizes[-1] > 4:
        sizes.append(-(-sizes[-1] // 2))
    return sizes


def kernel_size(larger: int, smaller: int) -> int:
    """Returns the side of the kernel with which a convolution of stride 2 and padding 1 maps `larger` to `smaller`, and
    its transpose back."""
    return 4 if larger == 2 * smaller else 3


class DCGAN(Encoder):
    """Strided convolutions down to maps of 4x4 or 3x3, whose numbers together are the representation.

    The discriminator's last layer reads this vector. Widths double from stage to stage, and BatchNorm stands after all
    stages but the first.

    filters: channels of the first maps.
    scaling: (mean, std) of the channels, None to take images as they are.
    """

    names = ("dcgan",)
    signed = True

    def __init__(self, name: str, channels: int, image_size: int, *, filters: int = 64, scaling: Scaling | None = None):
        if not isinstance(filters, int) or filters < 1:
            raise BadInput(f"--encoder {name}: filters is {filters}: give the channels of the first maps, 1 or more.")
        maps = map_sizes(image_size)
        widths = [channels, *(filters * 2**i for i in range(len(maps) - 1))]
        config = {"name": name, "channels": channels, "image_size": image_size, "filters": filters}
        super().__init__(config, widths[-1] * maps[-1] ** 2, scaling)
        self.side = maps[-1]
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, outputs, kernel_size(*pair), stride=2, padding=1, bias=False),
                nn.BatchNorm2d(outputs) if i else nn.Identity(),
                nn.LeakyReLU(0.2, inplace=True),
            )
            for i, ((inputs, outputs), pair) in enumerate(zip(pairwise(widths), pairwise(maps), strict=True))
        )
        initialize_(self)

    def stages(self, images: Tensor) -> list[Tensor]:
        """Returns maps of half the images' side, a quarter, …"""
        x, maps = self.scaled(images), []
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        return maps

    def pooled(self, stage: Tensor) -> Tensor:
        """Returns the maps as one vector. Larger maps are first reduced to the size of the last maps by max-pooling."""
        return adaptive_max_pool2d(on_capable_device(stage), self.side).flatten(1).to(stage.device)


def initialize_(module: nn.Module) -> None:
    """Initializes layers as published: weights from N(0, 0.02²), those of BatchNorm from N(1, 0.02²), biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.BatchNorm2d) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
