"""Fully connected layers on the pixels: the encoder of small autoencoders, and of points in a plane."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Literal

from torch import Tensor, nn

from sanslabel.encoders.encoder import Encoder, Scaling
from sanslabel.errors import BadInput
from sanslabel.inputs import height_and_width

Activation = Literal["relu", "tanh"]
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


class MLP(Encoder):
    """Linear layers with an activation after each, on images of one fixed size, which may be a single pixel. The last
    layer's width is that of the representation.

    hidden: the width of each layer, or of the only one.
    activation: "relu" or "tanh".
    scaling: (mean, std) of the channels, None to take images as they are.
    """

    names = ("mlp",)
    rectangles = True
    smallest = 1

    def __init__(
        self,
        name: str,
        channels: int,
        image_size: int | tuple[int, int],
        *,
        hidden: Sequence[int] | int = 500,
        activation: Activation = "relu",
        scaling: Scaling | None = None,
    ):
        widths = [hidden] if isinstance(hidden, int) else list(hidden)
        if not widths or not all(isinstance(width, int) and width > 0 for width in widths):
            raise BadInput(
                f"--encoder {name}: hidden is {hidden}: give the widths of the layers, such as 500 or 500,30."
            )
        if activation not in ACTIVATIONS:
            raise BadInput(f"--encoder {name}: activation is {activation!r}: there are {', '.join(ACTIVATIONS)}.")
        config = {"name": name, "channels": channels, "image_size": image_size}
        super().__init__(config | {"hidden": widths, "activation": activation}, widths[-1], scaling)
        self.size = height_and_width(image_size)
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise([channels * prod(self.size), *widths]))
        self.activation = ACTIVATIONS[activation]()

    def stages(self, images: Tensor) -> list[Tensor]:
        """Returns a vector (N, width) after each layer. Raises BadInput for images of another size."""
        x, vectors = self.scaled(images).flatten(1), []
        if x.shape[1] != self.layers[0].in_features:
            height, width = self.size
            raise BadInput(f"The encoder reads images of {height}x{width}, not of {images.shape[2]}x{images.shape[3]}.")
        for layer in self.layers:
            x = self.activation(layer(x))
            vectors.append(x)
        return vectors

    def pooled(self, stage: Tensor) -> Tensor:
        return stage
