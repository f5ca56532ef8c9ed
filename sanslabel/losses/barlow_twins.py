from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from sanslabel.losses.precision import in_float32


class BarlowTwinsTerms(NamedTuple):
    """The two terms of Barlow Twins, () each, without their weights."""

    invariance: Tensor
    """Σᵢ (1 - Cᵢᵢ)²"""
    redundancy: Tensor
    """Σ_{i≠j} Cᵢⱼ²"""


@in_float32
def barlow_twins_terms(a: Tensor, b: Tensor) -> BarlowTwinsTerms:
    """Returns the terms of `barlow_twins`, without their weights. a, b: (N, D), two views of the same N samples."""
    a, b = _standardized(a), _standardized(b)
    n, d = a.shape
    diagonal = (a * b).mean(dim=0)  # (D,)
    # ‖ÂᵀB̂‖² = tr(ÂÂᵀ B̂B̂ᵀ), so the smaller products suffice: N x N in place of 256 MiB at N = 128, D = 8192.
    squares = (a.T @ b).square().sum() if d <= n else ((a @ a.T) * (b @ b.T)).sum()
    return BarlowTwinsTerms((1 - diagonal).square().sum(), squares / n**2 - diagonal.square().sum())


@in_float32
def barlow_twins(a: Tensor, b: Tensor, redundancy: float = 0.0051) -> Tensor:
    """Returns how far the correlations of the views' dimensions are from the identity: the same dimension should agree
    between the views, and different dimensions should be uncorrelated.

    a, b: (N, D), two views of the same N samples -> (), summed over the D x D correlations.
    Σᵢ (1 - Cᵢᵢ)² + λ Σ_{i≠j} Cᵢⱼ², C = ÂᵀB̂/N of standardized columns (biased variance, ε = 1e-5 as in BatchNorm). D at
    collapse. Zbontar et al. 2021, eq. 1-2.
    """
    terms = barlow_twins_terms(a, b)
    return terms.invariance + redundancy * terms.redundancy


def _standardized(z: Tensor) -> Tensor:
    return (z - z.mean(dim=0)) / (z.var(dim=0, correction=0) + 1e-5).sqrt()
