"""Whether distances between features say what belongs together."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from sanslabel.randomness import Stream, fold, integers, uniform

TRIPLETS = 20_000


@torch.no_grad()
def triplet_accuracy(features: Tensor, labels: Tensor, seed: int) -> float:
    """How often, in %, an image is nearer (cosine) to another one of its class than to one of another class, over
    20,000 triplets drawn by the seed; 50 by chance, and equal distances count half. nan where no triplet can be drawn.

    features: (N, D); labels: (N,) int64.
    """
    order = labels.argsort(stable=True)
    ordered = labels[order]
    first = torch.searchsorted(ordered, ordered)  # of the class of each, in that order
    size = torch.searchsorted(ordered, ordered, right=True) - first
    anchors = ((size > 1) & (size < len(labels))).nonzero()[:, 0]
    if len(anchors) == 0:
        return float("nan")
    draws = uniform(torch.tensor([fold(seed, Stream.TRIPLETS)]), 3 * TRIPLETS, 0).view(3, -1).to(features.device)
    anchor = anchors[(draws[0] * len(anchors)).long()]
    start, count = first[anchor], size[anchor]
    same = start + (draws[1] * (count - 1)).long()
    same = same + (same >= anchor)  # all of the class but itself
    other = (draws[2] * (len(labels) - count)).long()
    other = other + count * (other >= start)  # all that are not of the class
    return _nearer(normalize(features.float(), dim=1)[order], anchor, same, other)


@torch.no_grad()
def triplet_agreement(features: Tensor, reference: Tensor, seed: int) -> float:
    """How often, in %, of two images the same one is nearer to a third in both: (N, D) and (N, E). 50 by chance."""
    unit, known = normalize(features.float(), dim=1), normalize(reference.float(), dim=1)
    drawn = (
        integers(torch.tensor([fold(seed, Stream.REFERENCE_TRIPLETS)]), 6 * TRIPLETS, len(unit), 0)
        .view(3, -1)
        .to(unit.device)
    )
    anchor, first, second = drawn
    three = (anchor != first) & (anchor != second) & (first != second)
    anchor, first, second = (part[three] for part in (anchor, first, second))
    near = (known[anchor] * known[first]).sum(dim=1) >= (known[anchor] * known[second]).sum(dim=1)
    return _nearer(unit, anchor, torch.where(near, first, second), torch.where(near, second, first))


@torch.no_grad()
def alignment_of_kernels(features: Tensor, reference: Tensor) -> float:
    """Linear centered kernel alignment in %: ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖) of centered X (N, D) and Y (N, E), Frobenius norms.
    100 where one is the other but for a rotation and a scale, 0 where they have nothing in common or one is constant.
    Kornblith et al. 2019, equation 5."""
    x, y = (part.double() - part.double().mean(dim=0) for part in (features, reference))
    if len(x) < max(x.shape[1], y.shape[1]):  # the same of the kernels themselves, which are then the smaller ones
        k, m = x @ x.T, y @ y.T
        shared, norms = (k * m).sum(), k.norm() * m.norm()
    else:
        shared, norms = (y.T @ x).square().sum(), (x.T @ x).norm() * (y.T @ y).norm()
    return 100 * float(shared / norms) if norms > 0 else 0.0


def with_labels(features: Tensor, labels: Tensor, classes: int) -> float:
    """The alignment of features with the kernel that says whether two images are of one class."""
    return alignment_of_kernels(features, one_hot(labels, classes))


def _nearer(unit: Tensor, anchor: Tensor, near: Tensor, far: Tensor) -> float:
    anchor, near, far = (part[:TRIPLETS] for part in (anchor, near, far))
    if len(anchor) == 0:
        return float("nan")
    gain = (unit[anchor] * (unit[near] - unit[far])).sum(dim=1)
    return 50 * float((gain.sign() + 1).mean())
