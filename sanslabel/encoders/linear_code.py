"""A linear code on top of another encoder."""

from __future__ import annotations

from typing import Self

from torch import Tensor, nn

from sanslabel.encoders.encoder import Encoder, Scaling
from sanslabel.errors import BadInput


class LinearCode(Encoder):
    """An encoder whose representation is a linear layer on that of another: an autoencoder's code, the mean of a
    posterior. `trunk` is the other one, `code` the layer.

    of: the other encoder, in a configuration that one's own.
    width: of the code.
    scaling: (mean, std) of the channels, before that of the other encoder; None to hand images on as they are.
    """

    smallest = 1

    def __init__(
        self, name: str, channels: int, image_size: int, *, of: Encoder, width: int, scaling: Scaling | None = None
    ):
        if width < 1:
            raise BadInput(f"A code of {width} numbers was asked for: give 1 or more.")
        config = {"name": name, "channels": channels, "image_size": image_size, "of": of.config, "width": width}
        super().__init__(config, width, scaling)
        self.trunk = of
        self.code = nn.Linear(of.width, width)

    @classmethod
    def on(cls, encoder: Encoder, width: int) -> Self:
        return cls("coded", encoder.config["channels"], encoder.config["image_size"], of=encoder, width=width)

    def stages(self, images: Tensor) -> list[Tensor]:
        """Those of the other encoder, and the code (N, width)."""
        stages = self.trunk.stages(images if self.scaling is None else self.scaled(images))
        return [*stages, self.code(self.trunk.pooled(stages[-1]))]

    def pooled(self, stage: Tensor) -> Tensor:
        return stage if stage.ndim == 2 else self.trunk.pooled(stage)
