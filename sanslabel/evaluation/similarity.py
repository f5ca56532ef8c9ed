"""Measures of whether distances between features agree with labels, or with distances between other features."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from sanslabel.randomness import Stream, fold, integers, uniform

TRIPLETS = 20_000
"""triplets that are drawn"""


@torch.no_grad()
def triplet_accuracy(features: Tensor, labels: Tensor, seed: int) -> float:
    """Returns how often, in %, an image is nearer (cosine) to another one of its class than to one of another class.

    20,000 triplets are drawn by the seed. Chance is 50, and equal distances count half. The result is nan if there are
    no triplets.

    features: (N, D); labels: (N,) int64.
    """
    order = labels.argsort(stable=True)
    ordered = labels[order]
    first = torch.searchsorted(ordered, ordered)  # the first position of each sample's class in `ordered`
    size = torch.searchsorted(ordered, ordered, right=True) - first
    anchors = ((size > 1) & (size < len(labels))).nonzero()[:, 0]
    if len(anchors) == 0:
        return float("nan")
    draws = uniform(torch.tensor([fold(seed, Stream.TRIPLETS)]), 3 * TRIPLETS, 0).view(3, -1).to(features.device)
    anchor = anchors[(draws[0] * len(anchors)).long()]
    start, count = first[anchor], size[anchor]
    same = start + (draws[1] * (count - 1)).long()
    same = same + (same >= anchor)  # any of the class but the anchor
    other = (draws[2] * (len(labels) - count)).long()
    other = other + count * (other >= start)  # any of another class
    return _nearer(normalize(features.float(), dim=1)[order], anchor, same, other)


@torch.no_grad()
def triplet_agreement(features: Tensor, reference: Tensor, seed: int) -> float:
    """Returns how often, in %, features (N, D) and reference (N, E) agree which of two images is nearer to a third one.
    Chance is 50."""
    unit, known = normalize(features.float(), dim=1), normalize(reference.float(), dim=1)
    drawn = (
        integers(torch.tensor([fold(seed, Stream.REFERENCE_TRIPLETS)]), 6 * TRIPLETS, len(unit), 0)
        .view(3, -1)
        .to(unit.device)
    )
    anchor, first, second = drawn
    three = (anchor != first) & (anchor != second) & (first != second)
    anchor, first, second = anchor[three], first[three], second[three]
    near = (known[anchor] * known[first]).sum(dim=1) >= (known[anchor] * known[second]).sum(dim=1)
    return _nearer(unit, anchor, torch.where(near, first, second), torch.where(near, second, first))


@torch.no_grad()
def alignment_of_kernels(features: Tensor, reference: Tensor) -> float:
    """Returns the linear centered kernel alignment (CKA), in %.

    ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖) for centered X (N, D) and Y (N, E), in Frobenius norms. It is 100 if one equals the other
    up to a rotation and a scale. It is 0 if they have nothing in common or one is constant. Kornblith et al. 2019,
    equation 5.
    """
    x, y = (h.double() - h.double().mean(dim=0) for h in (features, reference))
    if len(x) < max(x.shape[1], y.shape[1]):  # the kernels give the same number and are smaller here
        k, m = x @ x.T, y @ y.T
        shared, norms = (k * m).sum(), k.norm() * m.norm()
    else:
        shared, norms = (y.T @ x).square().sum(), (x.T @ x).norm() * (y.T @ y).norm()
    return 100 * float(shared / norms) if norms > 0 else 0.0


def alignment_with_labels(features: Tensor, labels: Tensor, classes: int) -> float:
    """Returns the alignment of features (N, D) with the kernel that is 1 for two images of one class (N,), else 0."""
    return alignment_of_kernels(features, one_hot(labels, classes))


def _nearer(unit: Tensor, anchor: Tensor, near: Tensor, far: Tensor) -> float:
    """Returns how often, in %, the anchor is nearer to `near` than to `far`. All three are positions in `unit`, (N,
    D)."""
    anchor, near, far = anchor[:TRIPLETS], near[:TRIPLETS], far[:TRIPLETS]
    if len(anchor) == 0:
        return float("nan")
    gain = (unit[anchor] * (unit[near] - unit[far])).sum(dim=1)
    return 50 * float((gain.sign() + 1).mean())
