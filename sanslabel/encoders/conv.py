"""A small residual network for small images on CPUs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sanslabel.encoders.encoder import Encoder, Scaling
from sanslabel.encoders.resnet import BasicBlock, initialize_


class Conv(Encoder):
    """A strided stem and two residual blocks, 1.15 M parameters, width 256, global average pooling at the end.

    Every stage halves the maps (28x28 pixels: 14, 7, 4; 8x8: 4, 2, 1), since the finest maps cost the most time.

    scaling: (mean, std) of the channels, None to take images as they are.
    patches: (size, stride) of the patches whose mean is the representation, None to read images as a whole.
    """

    names = ("conv",)
    rectangles = True

    def __init__(
        self,
        name: str,
        channels: int,
        image_size: int | tuple[int, int],
        *,
        scaling: Scaling | None = None,
        patches: Sequence[int] | None = None,
    ):
        super().__init__({"name": name, "channels": channels, "image_size": image_size}, 256, scaling, patches)
        self.stem = nn.Sequential(
            nn.Conv2d(channels, 64, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)
        )
        self.layer1 = BasicBlock(64, 128, stride=2)
        self.layer2 = BasicBlock(128, 256, stride=2)
        initialize_(self)

    def stages(self, images: Tensor) -> list[Tensor]:
        """Returns three maps, of 64, 128 and 256 channels."""
        stem = self.stem(self.scaled(images))
        middle = self.layer1(stem)
        return [stem, middle, self.layer2(middle)]

    def pooled(self, stage: Tensor) -> Tensor:
        return stage.mean(dim=(2, 3))
