"""Whether distances between features say what belongs together."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from sanslabel.randomness import fold, integers

TRIPLETS = 20_000


@torch.no_grad()
def triplet_accuracy(features: Tensor, labels: Tensor, seed: int) -> float:
    """How often, in %, an image is nearer (cosine) to another one of its class than to one of another class, over
    20,000 triplets drawn by the seed; 50 by chance, and equal distances count half. nan where no triplet can be drawn.

    features: (N, D); labels: (N,) int64.
    """
    unit, n = normalize(features.float(), dim=1), len(labels)
    anchor, same, other = _drawn(n, seed, labels.device)
    # Of rows drawn at random, those that are of the class asked for: classes count as often as they have pairs.
    fits = (labels[anchor] == labels[same]) & (anchor != same) & (labels[anchor] != labels[other])
    anchor, same, other = (part[fits] for part in (anchor, same, other))
    return _nearer(unit, anchor, same, other)


@torch.no_grad()
def triplet_agreement(features: Tensor, reference: Tensor, seed: int) -> float:
    """How often, in %, of two images the same one is nearer to a third in both: (N, D) and (N, E). 50 by chance."""
    unit, known = normalize(features.float(), dim=1), normalize(reference.float(), dim=1)
    anchor, first, second = _drawn(len(unit), seed, unit.device)
    three = (anchor != first) & (anchor != second) & (first != second)
    anchor, first, second = (part[three] for part in (anchor, first, second))
    near = (known[anchor] * known[first]).sum(dim=1) >= (known[anchor] * known[second]).sum(dim=1)
    return _nearer(unit, anchor, torch.where(near, first, second), torch.where(near, second, first))


@torch.no_grad()
def alignment_of_kernels(features: Tensor, reference: Tensor) -> float:
    """Linear centered kernel alignment in %: ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖) of centered X (N, D) and Y (N, E), Frobenius norms.
    100 where one is the other but for a rotation and a scale, 0 where they have nothing in common. Kornblith et al.
    2019, equation 5; the same rows give 1/√D or so by chance."""
    x, y = (part.double() - part.double().mean(dim=0) for part in (features, reference))
    return 100 * float((y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm()))


def with_labels(features: Tensor, labels: Tensor, classes: int) -> float:
    """The alignment of features with the kernel that says whether two images are of one class."""
    return alignment_of_kernels(features, one_hot(labels, classes))


def _drawn(n: int, seed: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Three columns of rows; enough that with ten classes there are about TRIPLETS of use."""
    keys = torch.tensor([fold(seed, 13)], dtype=torch.int64)
    found = integers(keys, 3 * 12 * TRIPLETS, n, 0).view(3, -1).to(device)
    return found[0], found[1], found[2]


def _nearer(unit: Tensor, anchor: Tensor, near: Tensor, far: Tensor) -> float:
    anchor, near, far = (part[:TRIPLETS] for part in (anchor, near, far))
    if len(anchor) == 0:
        return float("nan")
    gain = (unit[anchor] * (unit[near] - unit[far])).sum(dim=1)
    return 50 * float((gain.sign() + 1).mean())
