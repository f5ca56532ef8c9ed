"""Losses: pure functions of tensors. They compute in float32 (or float64 where given that), never gather, never read a
configuration."""

from sanslabel.losses.barlow_twins import barlow_twins
from sanslabel.losses.dino import dino
from sanslabel.losses.info_nce import info_nce
from sanslabel.losses.instance_discrimination import instance_discrimination
from sanslabel.losses.nce import chance, nce
from sanslabel.losses.negative_cosine import negative_cosine
from sanslabel.losses.nt_xent import nt_xent
from sanslabel.losses.patch_reconstruction import patch_reconstruction
from sanslabel.losses.predictive_coding import Negatives, candidate_scores, predictive_coding
from sanslabel.losses.sigreg import sigreg
from sanslabel.losses.sinkhorn import sinkhorn
from sanslabel.losses.smooth_l1 import smooth_l1
from sanslabel.losses.vicreg import covariance_penalty, variance_hinge, vicreg

__all__ = [
    "Negatives",
    "barlow_twins",
    "candidate_scores",
    "chance",
    "covariance_penalty",
    "dino",
    "info_nce",
    "instance_discrimination",
    "nce",
    "negative_cosine",
    "nt_xent",
    "patch_reconstruction",
    "predictive_coding",
    "sigreg",
    "sinkhorn",
    "smooth_l1",
    "variance_hinge",
    "vicreg",
]
