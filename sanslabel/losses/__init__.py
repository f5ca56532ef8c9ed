"""Losses: pure functions of tensors. They compute in float32 (or in float64 for such inputs), never gather, and never
read a configuration."""

from sanslabel.losses.adversarial import deception, discrimination
from sanslabel.losses.barlow_twins import barlow_twins, barlow_twins_terms
from sanslabel.losses.cross_entropy import cross_entropy
from sanslabel.losses.cross_modal import cross_modal
from sanslabel.losses.dino import dino
from sanslabel.losses.gaussian_kl import gaussian_kl, kl_by_dimension, sampled_kl
from sanslabel.losses.info_nce import info_nce
from sanslabel.losses.instance_discrimination import instance_discrimination
from sanslabel.losses.likelihood import bernoulli_nll, gaussian_nll
from sanslabel.losses.margin_energy import margin_energy, pull_away
from sanslabel.losses.nce import chance, mean_exponential, nce, partition
from sanslabel.losses.negative_cosine import negative_cosine
from sanslabel.losses.nt_xent import nt_xent
from sanslabel.losses.patch_reconstruction import patch_reconstruction
from sanslabel.losses.predictive_coding import Negatives, candidate_scores, predictive_coding
from sanslabel.losses.sigreg import sigreg
from sanslabel.losses.sinkhorn import sinkhorn
from sanslabel.losses.smooth_l1 import smooth_l1
from sanslabel.losses.squared_error import squared_error
from sanslabel.losses.time_triplet import near_and_far, time_triplet
from sanslabel.losses.token_nll import token_nll, token_nll_terms
from sanslabel.losses.track_hinge import track_hinge
from sanslabel.losses.vicreg import covariance_penalty, variance_hinge, vicreg, vicreg_terms

__all__ = [
    "Negatives",
    "barlow_twins",
    "barlow_twins_terms",
    "bernoulli_nll",
    "candidate_scores",
    "chance",
    "covariance_penalty",
    "cross_entropy",
    "cross_modal",
    "deception",
    "dino",
    "discrimination",
    "gaussian_kl",
    "gaussian_nll",
    "info_nce",
    "instance_discrimination",
    "kl_by_dimension",
    "margin_energy",
    "mean_exponential",
    "nce",
    "near_and_far",
    "negative_cosine",
    "nt_xent",
    "partition",
    "patch_reconstruction",
    "predictive_coding",
    "pull_away",
    "sampled_kl",
    "sigreg",
    "sinkhorn",
    "smooth_l1",
    "squared_error",
    "time_triplet",
    "token_nll",
    "token_nll_terms",
    "track_hinge",
    "variance_hinge",
    "vicreg",
    "vicreg_terms",
]
