"""Permutations of tiles that differ from each other as much as possible."""

from __future__ import annotations

from functools import cache
from itertools import permutations as all_permutations
from math import factorial

import numpy as np
import torch
from torch import Tensor

from sanslabel.errors import BadInput
from sanslabel.randomness import permutation


@cache
def _candidates(length: int) -> np.ndarray:
    """Returns all permutations in a fixed random order, one in each column, (length, length!) int8. Comparisons of
    columns read memory in sequence: 2 ms for each choice among 9!."""
    candidates = np.array(list(all_permutations(range(length))), dtype=np.int8).T
    # Nearly all choices are ties. The first in lexical order would leave the same tiles in place again and again.
    with torch.device("cpu"):  # also where networks are built on "meta"
        order = permutation(0, candidates.shape[1]).numpy()
    return np.ascontiguousarray(candidates[:, order])


@cache
def _chosen(count: int, length: int) -> np.ndarray:
    candidates = _candidates(length)
    nearest = np.full(candidates.shape[1], length, dtype=np.int8)  # distance to the nearest chosen one
    chosen = np.empty((count, length), dtype=np.int64)
    for choice in chosen:
        choice[:] = candidates[:, nearest.argmax()]
        distance = np.zeros_like(nearest)
        for place, tile in zip(candidates, choice, strict=True):
            distance += place != tile
        np.minimum(nearest, distance, out=nearest)
    return chosen


def permutations(count: int, length: int = 9) -> Tensor:
    """Returns permutations of range(length), each the farthest from those before it, (count, length) int64.

    Each is the one of all length! candidates whose smallest Hamming distance to the chosen ones is largest. Noroozi and
    Favaro 2016, algorithm 1, take the mean distance instead. A fixed random order settles ties, so that the set is
    always the same, and a larger set begins with the smaller one. For 9 tiles, 100 permutations differ in at least 6
    places and 1,000 in at least 5. Computing them takes one and three seconds, once in a process. Raises BadInput if
    `length` is above 9, or `count` above the number of permutations.
    """
    if length > 9:
        raise BadInput(f"Permutations of {length} tiles are too many to compare all of them; give at most 9 tiles.")
    if not 1 <= count <= factorial(length):
        raise BadInput(
            f"{count} permutations of {length} tiles: there are {factorial(length)}; give a number from 1 up to that."
        )
    return torch.from_numpy(_chosen(count, length).copy())


def shuffled(tiles: Tensor, order: Tensor) -> Tensor:
    """Returns the tiles of each sample in its order: place i shows tile order[i].

    tiles: (N, P, ...), or their embeddings; order: (N, P) int64, permutations -> (N, P, ...).
    """
    return tiles[torch.arange(len(tiles), device=tiles.device)[:, None], order]
