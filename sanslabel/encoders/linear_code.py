"""A linear code on top of another encoder."""

from __future__ import annotations

from typing import Self

from torch import Tensor, nn

from sanslabel.encoders.encoder import Encoder, Scaling
from sanslabel.errors import BadInput

TRUNK = "trunk."
"""prefix of the names of the other encoder's tensors"""


class LinearCode(Encoder):
    """A linear layer on the representation of another encoder, such as an autoencoder's code or the mean of a
    posterior. `trunk` is the other encoder, `code` the layer.

    of: the other encoder; in a configuration, its configuration.
    width: the width of the code.
    scaling: (mean, std) of the channels, applied before the scaling of the other encoder; None to pass images on as
    they are.
    """

    names = ("linear_code", "coded")  # "coded" in configurations of older runs
    smallest = 1

    def __init__(
        self, name: str, channels: int, image_size: int, *, of: Encoder, width: int, scaling: Scaling | None = None
    ):
        if not isinstance(of, Encoder):
            raise BadInput(f"--encoder {name}: is made only by methods, on top of another encoder; name that encoder.")
        if width < 1:
            raise BadInput(f"The width of a code is {width}: give 1 or more.")
        config = {"name": name, "channels": channels, "image_size": image_size, "of": of.config, "width": width}
        super().__init__(config, width, scaling)
        if "levels" in of.config:
            self.record_levels_(of.config["levels"])
        self.trunk = of
        self.code = nn.Linear(of.width, width)

    @classmethod
    def on(cls, encoder: Encoder, width: int) -> Self:
        """Returns a code of this width on the encoder, with fresh weights of its own. Raises BadInput if the width is
        below 1."""
        return cls("linear_code", encoder.config["channels"], encoder.config["image_size"], of=encoder, width=width)

    def stages(self, images: Tensor) -> list[Tensor]:
        """Returns the stages of the other encoder, and the code (N, width)."""
        stages = self.trunk.stages(self._handed_on(images))
        return [*stages, self.code(self.trunk.pooled(stages[-1]))]

    def pooled(self, stage: Tensor) -> Tensor:
        return stage if stage.ndim == 2 else self.trunk.pooled(stage)

    def maps(self, images: Tensor) -> list[Tensor]:
        return self.trunk.maps(self._handed_on(images))

    def fitted(self, name: str, tensor: Tensor) -> tuple[Tensor, str] | None:
        inner = name.removeprefix(TRUNK)
        return super().fitted(name, tensor) if inner == name else self.trunk.fitted(inner, tensor)

    def _handed_on(self, images: Tensor) -> Tensor:
        return images if self.scaling is None else self.scaled(images)
