"""Losses: pure functions of tensors. They compute in float32 (or float64 where given that), never gather, never read a
configuration."""

from sanslabel.losses.barlow_twins import barlow_twins
from sanslabel.losses.info_nce import info_nce
from sanslabel.losses.nce import nce
from sanslabel.losses.negative_cosine import negative_cosine
from sanslabel.losses.nt_xent import nt_xent
from sanslabel.losses.sigreg import sigreg
from sanslabel.losses.sinkhorn import sinkhorn
from sanslabel.losses.vicreg import covariance_penalty, variance_hinge, vicreg

__all__ = [
    "barlow_twins",
    "covariance_penalty",
    "info_nce",
    "nce",
    "negative_cosine",
    "nt_xent",
    "sigreg",
    "sinkhorn",
    "variance_hinge",
    "vicreg",
]
