"""Fifths of labeled samples, of which one is held out."""

from __future__ import annotations

import torch
from torch import Tensor

from sanslabel.randomness import Stream, fold, permutation

FOLDS = 5


def fifths(labels: Tensor, seed: int) -> Tensor:
    """Returns the fifth that each sample belongs to, (N,) int64 in [0, 5), fixed by the seed. All fifths have the same
    shares of classes."""
    order = permutation(fold(seed, Stream.FOLDS), len(labels)).to(labels.device)
    order = order[labels[order].argsort(stable=True)]
    fifth = torch.empty_like(labels)
    fifth[order] = torch.arange(len(labels), device=labels.device) % FOLDS
    return fifth
