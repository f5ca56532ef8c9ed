from __future__ import annotations

import torch
from torch import Tensor

from sanslabel.losses.precision import in_float32

KNOTS, FARTHEST = 17, 3.0
"""knots and range of the trapezoid rule over t, as in the authors' code"""


@in_float32
def sigreg(z: Tensor, directions: Tensor) -> Tensor:
    """Returns how far projections of the embedding are from a standard normal distribution: the mean of their
    Epps-Pulley statistics (sketched isotropic Gaussian regularization).

    z: (N, D); directions: (M, D) unit rows -> (). The value is 1.05 if z is normal; otherwise it grows with N.
    T = N ∫ |φ(t) - exp(-t²/2)|² exp(-t²/2) dt, φ(t) = 1/N Σₙ exp(i t aᵀzₙ), over [-3, 3] by symmetry; the mean over
    directions a. 0.402 N if all z are 0. Balestriero and LeCun 2025 (LeJEPA), section 4.
    """
    t = torch.linspace(0, FARTHEST, KNOTS, dtype=z.dtype, device=z.device)
    normal = torch.exp(-t.square() / 2)
    width = FARTHEST / (KNOTS - 1)
    weights = torch.full_like(t, 2 * width)  # both halves of an even integrand
    weights[0] = weights[-1] = width
    angles = (z @ directions.T)[..., None] * t  # (N, M, KNOTS)
    real, imaginary = angles.cos().mean(dim=0), angles.sin().mean(dim=0)  # (M, KNOTS)
    distance = (real - normal).square() + imaginary.square()
    return len(z) * (distance @ (weights * normal)).mean()
