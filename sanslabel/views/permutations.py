"""Permutations of tiles that are as unlike each other as can be."""

from __future__ import annotations

from functools import cache
from itertools import permutations as every
from math import factorial

import numpy as np
import torch
from torch import Tensor

from sanslabel.errors import BadInput
from sanslabel.randomness import permutation


@cache
def _chosen(count: int, length: int) -> np.ndarray:
    # A column for each candidate, so that a comparison runs along memory: 2 ms for each that is chosen of 9!.
    candidates = np.array(list(every(range(length))), dtype=np.int8).T
    # Nearly all choices are ties. The first in alphabetical order would leave the same tiles in place again and again.
    with torch.device("cpu"):  # also where networks are only outlined
        order = permutation(0, candidates.shape[1]).numpy()
    candidates = np.ascontiguousarray(candidates[:, order])
    nearest = np.full(candidates.shape[1], length, dtype=np.int8)  # to any of the chosen
    chosen = np.empty((count, length), dtype=np.int64)
    for row in chosen:
        row[:] = candidates[:, nearest.argmax()]
        distance = np.zeros_like(nearest)
        for place, tile in zip(candidates, row, strict=True):
            distance += place != tile
        np.minimum(nearest, distance, out=nearest)
    return chosen


def permutations(count: int, length: int = 9) -> Tensor:
    """Permutations of range(length), each the farthest from those before it: of all length! candidates the one whose
    smallest Hamming distance to the chosen is largest (Noroozi and Favaro 2016, algorithm 1, which takes the mean
    distance). A fixed random order settles ties, so that the set is always the same, and begins with the smaller ones.

    -> (count, length) int64, no two alike. BadInput where there are not so many. Of 9 tiles, 100 permutations differ in
    at least 6 places and 1,000 in 5; they take one and three seconds, once in a process.
    """
    if length > 9 or not 1 <= count <= factorial(length):
        raise BadInput(
            f"{count} permutations of {length} tiles: there are {factorial(length)}, all of which are compared, "
            "for up to 9 tiles; give a number from 1 up to that."
        )
    return torch.from_numpy(_chosen(count, length).copy())


def shuffled(parts: Tensor, order: Tensor) -> Tensor:
    """Each sample's parts in an order of its own: place i shows part order[i].

    parts: (N, P, ...), tiles or their embeddings; order: (N, P) int64, permutations -> (N, P, ...).
    """
    return parts[torch.arange(len(parts), device=parts.device)[:, None], order]
