"""Corruptions of images, which a denoising autoencoder undoes."""

from __future__ import annotations

from math import prod
from typing import Literal

from torch import Tensor

from sanslabel.errors import BadInput
from sanslabel.randomness import normal, uniform
from sanslabel.stopwatch import timed

Corruption = Literal["mask", "gaussian", "dropout"]


def check_corruption(kind: Corruption, amount: float) -> None:
    """Raises BadInput if a corruption of this kind cannot have this amount."""
    if amount < 0 or (kind != "gaussian" and amount >= 1):
        wanted = "a deviation of 0 or more" if kind == "gaussian" else "a probability from 0 to below 1"
        raise BadInput(f"--method.amount {amount}: must be {wanted} for {kind}.")


@timed("views")
def corrupted(images: Tensor, key: Tensor, kind: Corruption, amount: float, stream: int) -> Tensor:
    """Returns corrupted images: (N, C, H, W) in [-1, 1] -> the same shape. Draws are functions of the keys (N,).

    mask: each pixel becomes black, -1 in all its channels, with probability `amount` (Vincent et al. 2010, section
        3.3).
    dropout: each number becomes 0, mid-gray, with probability `amount`, and the others are divided by 1 - amount, as in
        a dropout layer. At ½ the others are doubled, and lie in [-2, 2].
    gaussian: each number moves by a normal draw times `amount`.
    Raises BadInput for an amount that this kind cannot have.
    """
    check_corruption(kind, amount)
    n, channels, *area = images.shape
    if kind == "gaussian":
        noise = normal(key, images[0].numel(), stream).view_as(images)
        return images + amount * noise.to(images.dtype)
    if kind == "mask":
        masked = uniform(key, prod(area), stream).view(n, 1, *area) < amount
        return images.masked_fill(masked, -1)
    dropped = uniform(key, channels * prod(area), stream).view_as(images) < amount
    return images.masked_fill(dropped, 0) / (1 - amount)
