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
    """Returns the linear centered kernel alignment (CKA) without its bias, in %.

    HSIC(K, L) / √(HSIC(K, K) HSIC(L, L)) for the kernels K = X Xᵀ and L = Y Yᵀ of X (N, D) and Y (N, E). HSIC is the
    unbiased estimator. The alignment is 100 if one equals the other up to a rotation and a scale. If they have nothing
    in common, it is about 0, also below, however wide they are. It is 0 if one is constant, and nan for fewer than four
    samples. Kornblith et al. 2019, equation 5; Song et al. 2012, equation 5.
    """
    if len(features) < 4:
        return float("nan")
    x, y = _centered(features), _centered(reference)
    norms = _unbiased_hsic(x, x).clamp(min=0) * _unbiased_hsic(y, y).clamp(min=0)
    return 100 * float(_unbiased_hsic(x, y) / norms.sqrt()) if norms > 0 else 0.0


def _centered(features: Tensor) -> Tensor:
    """Returns the features less their mean, in float64. Constant features become exact zeros."""
    shifted = features.double() - features[0].double()
    return shifted - shifted.mean(dim=0)


def _unbiased_hsic(x: Tensor, y: Tensor) -> Tensor:
    """Returns N (N - 3) times the unbiased HSIC of the linear kernels of centered X (N, D) and Y (N, E).

    That is ΣΣ KᵢⱼLᵢⱼ over i ≠ j, less 2 / (N - 2) ΣᵢKᵢᵢLᵢᵢ, plus tr K tr L / ((N - 1) (N - 2)). In a centered kernel, a
    row without its diagonal sums to -Kᵢᵢ, so that no sum over rows is left of Song's equation.
    """
    n, widest = len(x), max(x.shape[1], y.shape[1])
    # The kernels give the same number, and are the smaller matrices for wide features.
    all_pairs = ((x @ x.T) * (y @ y.T)).sum() if n < widest else (y.T @ x).square().sum()
    k, m = x.square().sum(dim=1), y.square().sum(dim=1)  # the diagonals
    return all_pairs - n / (n - 2) * (k * m).sum() + k.sum() * m.sum() / ((n - 1) * (n - 2))


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
