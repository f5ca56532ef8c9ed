"""Distances between sets of features: how near generated images are to data."""

from __future__ import annotations

import torch
from torch import Tensor

NEIGHBORS = 3
"""k, number of neighbors for precision and recall"""
BATCH = 256
"""points whose distances to all others are computed at a time"""


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Returns ‖μ_a - μ_b‖² + tr(Σ_a + Σ_b - 2 (Σ_a Σ_b)^½) of two normal approximations of features.

    a: (n, D); b: (m, D), n and m above 1. It is 0 if means and covariances agree. Heusel et al. 2017, eq. 6.
    """
    a, b = a.double(), b.double()
    covariances = [torch.atleast_2d(x.T.cov()) for x in (a, b)]
    values, vectors = torch.linalg.eigh(covariances[0])
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T  # Σ_a^½, so that the product below is symmetric
    product = torch.linalg.eigvalsh(root @ covariances[1] @ root).clamp(min=0)
    traces = sum(c.trace() for c in covariances)
    return ((a.mean(dim=0) - b.mean(dim=0)).square().sum() + traces - 2 * product.sqrt().sum()).item()


def precision_recall(real: Tensor, fake: Tensor, neighbors: int = NEIGHBORS) -> tuple[float, float]:
    """Returns the fraction of `fake` that lies within `real`, and of `real` within `fake`. Around each member of a set
    is a ball that reaches to the member's k-th nearest neighbor in the set. A point lies within the set if it is in one
    of these balls.

    real: (n, D); fake: (m, D). Kynkäänniemi et al. 2019, eq. 1 and 2, k = 3.
    """
    real, fake = real.double(), fake.double()  # in float32, the products would round small distances away
    return _fraction_within(fake, real, neighbors), _fraction_within(real, fake, neighbors)


def _fraction_within(points: Tensor, members: Tensor, neighbors: int) -> float:
    nearest = neighbors + 1  # each member is its own first neighbor
    radii = torch.cat([torch.cdist(chunk, members).kthvalue(nearest).values for chunk in members.split(BATCH)])
    inside = [(torch.cdist(chunk, members) <= radii).any(dim=1) for chunk in points.split(BATCH)]
    return torch.cat(inside).double().mean().item()
