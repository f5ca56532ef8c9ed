from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import mse_loss, relu

from sanslabel.losses.precision import in_float32


class VICRegTerms(NamedTuple):
    """The three terms of VICReg, () each, without their weights."""

    invariance: Tensor
    """the mean squared difference of the views"""
    variance: Tensor
    """(v(A) + v(B))/2, the hinges on standard deviations"""
    covariance: Tensor
    """c(A) + c(B), the squared covariances per column"""


@in_float32
def variance_hinge(z: Tensor) -> Tensor:
    """Returns by how much the standard deviations of the columns fall short of 1, on average.

    z: (N, D) -> (). v(Z) = 1/D Σ_d max(0, 1 - sqrt(Var(z_d) + 1e-4)); 0.99 at collapse. Bardes et al. 2022, eq. 1-2.
    """
    return relu(1 - (z.var(dim=0) + 1e-4).sqrt()).mean()


@in_float32
def covariance_penalty(z: Tensor) -> Tensor:
    """Returns the squared covariances between different columns, per column.

    z: (N, D) -> (). c(Z) = 1/D Σ_{i≠j} C_ij², C the covariance matrix with N - 1. Bardes et al. 2022, eq. 3-4.
    """
    n, d = z.shape
    centered = z - z.mean(dim=0)
    # ‖ZᵀZ‖² = ‖ZZᵀ‖², so the smaller product suffices, a quarter of the work at N = 256, D = 1024.
    gram = centered.T @ centered if d <= n else centered @ centered.T
    diagonal = centered.square().sum(dim=0)  # of ZᵀZ, (D,)
    return (gram.square().sum() - diagonal.square().sum()) / ((n - 1) ** 2 * d)


@in_float32
def vicreg_terms(a: Tensor, b: Tensor) -> VICRegTerms:
    """Returns the terms of `vicreg`, without their weights. a, b: (N, D), two views of the same N samples."""
    return VICRegTerms(
        invariance=mse_loss(a, b),
        variance=(variance_hinge(a) + variance_hinge(b)) / 2,
        covariance=covariance_penalty(a) + covariance_penalty(b),
    )


@in_float32
def vicreg(a: Tensor, b: Tensor, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0) -> Tensor:
    """Returns a loss that is low if the views are near each other, every column varies, and no two columns are alike.

    a, b: (N, D), two views of the same N samples -> ().
    λ · mean squared difference + μ · (v(A) + v(B))/2 + ν · (c(A) + c(B)), weighted as in the authors' code; the paper's
    pseudo-code does not halve the variance. 24.75 at collapse. Bardes et al. 2022, eq. 6.
    """
    terms = vicreg_terms(a, b)
    return invariance * terms.invariance + variance * terms.variance + covariance * terms.covariance
