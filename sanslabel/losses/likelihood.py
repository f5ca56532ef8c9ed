from __future__ import annotations

from math import log, pi

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from sanslabel.losses.precision import in_float32


@in_float32
def bernoulli_nll(logits: Tensor, target: Tensor) -> Tensor:
    """Returns the negative log likelihood of images, in nats, if each pixel is on with probability sigmoid(logit),
    independently of the others. A gray value counts as the probability that a pixel is on.

    logits, target in [0, 1]: (N, ...) -> (N,), summed over the pixels. -Σ_i xᵢ ln pᵢ + (1 - xᵢ) ln(1 - pᵢ); D ln 2
    if every logit is 0. Kingma and Welling 2014 (VAE), appendix C.1.
    """
    return binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).sum(dim=1)


@in_float32
def gaussian_nll(mean: Tensor, target: Tensor, variance: float = 1.0) -> Tensor:
    """Returns the negative log likelihood of images, in nats, if their pixels have independent normal densities. It is
    below 0 if these densities are narrow and their means near the pixels.

    mean, target: (N, ...) -> (N,), summed over the pixels. Σ_i (xᵢ - μᵢ)²/2σ² + ½ ln 2πσ².
    Kingma and Welling 2014 (VAE), appendix C.2.
    """
    squared = (target - mean).square().flatten(1)
    return squared.sum(dim=1) / (2 * variance) + squared.shape[1] * log(2 * pi * variance) / 2
