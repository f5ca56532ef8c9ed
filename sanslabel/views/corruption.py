"""What a denoising autoencoder is to undo."""

from __future__ import annotations

from math import prod
from typing import Literal

from torch import Tensor

from sanslabel.errors import BadInput
from sanslabel.randomness import normal, uniform
from sanslabel.stopwatch import timed

Corruption = Literal["mask", "gaussian", "dropout"]


def check(kind: Corruption, amount: float) -> None:
    """BadInput for an amount that a kind of corruption cannot have."""
    if amount < 0 or (kind != "gaussian" and amount >= 1):
        wanted = "a deviation of 0 or more" if kind == "gaussian" else "a probability from 0 to below 1"
        raise BadInput(f"--method.amount {amount}: must be {wanted} for {kind}.")


@timed("views")
def corrupted(images: Tensor, key: Tensor, kind: Corruption, amount: float, stream: int) -> Tensor:
    """Images (N, C, H, W) in [-1, 1] as they may have become, by draws that are functions of the keys (N,).

    mask: each pixel turns black, -1 in all its channels, with probability `amount` (Vincent et al. 2010, section 3.3).
    dropout: each number becomes 0, mid-gray, with that probability, and the others are divided by 1 - amount: the mask
        that a dropout layer makes of ones. What survives at ½ is doubled, and lies in [-2, 2].
    gaussian: each number moves by a normal draw times `amount`.
    """
    check(kind, amount)
    n, channels, *sides = images.shape
    if kind == "gaussian":
        noise = normal(key, images[0].numel(), stream).view_as(images)
        return images + amount * noise.to(images.dtype)
    if kind == "mask":
        gone = uniform(key, prod(sides), stream).view(n, 1, *sides) < amount
        return images.masked_fill(gone, -1)
    gone = uniform(key, channels * prod(sides), stream).view_as(images) < amount
    return images.masked_fill(gone, 0) / (1 - amount)
