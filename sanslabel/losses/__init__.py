"""Losses: pure functions of tensors. They compute in float32 (or float64 where given that), never gather, never read a
configuration."""

from sanslabel.losses.nt_xent import nt_xent
from sanslabel.losses.vicreg import covariance_penalty, variance_hinge, vicreg

__all__ = ["covariance_penalty", "nt_xent", "variance_hinge", "vicreg"]
