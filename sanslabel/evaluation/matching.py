"""Measures of how well the members of pairs find each other. Row i of one matrix and row i of the other are a pair."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sanslabel.evaluation.clip_scores import CHANCE, STEP, rounded
from sanslabel.randomness import Stream, fold, integers, permutation
from sanslabel.scores import Gain

FIRST: tuple[int, ...] = (1, 5, 10)
"""numbers of places up to which a partner counts as found"""
SHUFFLED = 10
"""shuffled pairs of each sample"""
RESAMPLED = 1000
"""times that samples are drawn again for an interval"""


class Places(NamedTuple):
    """The places at which queries find what belongs to them."""

    recall: dict[int, float]
    """share of queries whose partner is among the k nearest, by k, in %"""
    median_rank: float
    """rank of the partner of the median query, 1 for the first place"""
    precision: dict[int, float]
    """share of the query's class among the k nearest, by k, in %; empty without labels"""


def centered(embeddings: Tensor) -> Tensor:
    """Returns the normalized embeddings of a signal less their mean, (n, D)."""
    unit = normalize(embeddings.float(), dim=1)
    return unit - unit.mean(dim=0)


def rounded_cosines(a: Tensor, b: Tensor) -> Tensor:
    """Returns the cosines of all rows of a and b, (n, D) each -> (n, n), in whole steps. Rows of zeros, or of rounding
    errors, have the cosine 0."""
    units = (x / x.norm(dim=1, keepdim=True).clamp(min=STEP) for x in (a, b))
    first, second = units
    return rounded(first @ second.T)


@torch.no_grad()
def places(cosine: Tensor, labels: Tensor | None, seed: int) -> Places:
    """Returns the places at which each row finds the column of the same number.

    cosine: (n, n), rows search columns; labels: (n,) int64, -1 for samples without a label, or None. Equal cosines take
    the mean of their ranks, and a partner among them is found with the probability that a random order gives.
    """
    true = cosine.diagonal()[:, None]
    before, equal = (cosine > true).sum(dim=1), (cosine == true).sum(dim=1)  # the partner is one of the equal ones
    rank = before + (equal + 1) / 2
    recall = {k: 100 * float(((k - before) / equal).clamp(0, 1).mean()) for k in FIRST}
    precision = {}
    if labels is not None and bool((labels >= 0).any()):
        shuffled = permutation(fold(seed, Stream.MATCHING, 1), len(cosine)).to(cosine.device)
        nearest = shuffled[cosine[:, shuffled].argsort(dim=1, descending=True, stable=True)[:, : FIRST[-1]]]
        labels = labels.to(cosine.device)
        same = (labels[nearest] == labels[:, None])[labels >= 0].double()
        precision = {k: 100 * float(same[:, :k].mean()) for k in FIRST}
    return Places(recall, float(rank.double().quantile(0.5)), precision)


def places_by_chance(count: int, labels: Tensor | None) -> Places:
    """Returns the places of `count` samples in random order. labels: (count,) int64, or None."""
    precision = {}
    if labels is not None and bool((labels >= 0).any()):
        _, members = labels[labels >= 0].unique(return_counts=True)
        share = 100 * float(members.double().square().sum() / members.sum()) / count
        precision = dict.fromkeys(FIRST, share)
    return Places({k: 100 * min(1.0, k / count) for k in FIRST}, (count + 1) / 2, precision)


@torch.no_grad()
def gain_of_true_pairs(cosine: Tensor, group: Tensor | None, seed: int) -> Gain:
    """Returns how much the AUROC of true against shuffled pairs exceeds chance, in points, with its 95 % interval.

    The AUROC is how often the cosine of a true pair exceeds that of a shuffled pair; equal ones count half. Each sample
    has ten shuffled partners, none of its own clip. The interval is that of the bootstrap over clips, or over samples.

    cosine: (n, n); group: (n,) int64, the clip of each sample, or None if samples are independent.
    """
    key, count = fold(seed, Stream.MATCHING, 2), len(cosine)
    cluster = torch.arange(count) if group is None else group.cpu().unique(return_inverse=True)[1]
    order, cosine = permutation(key, count), cosine.cpu()
    true, partner = cosine.diagonal(), torch.empty_like(order)
    wins, pairs = torch.zeros(count, count), torch.zeros(count)
    for shift in range(1, min(SHUFFLED, count - 1) + 1):
        partner[order] = order.roll(shift)
        false = cosine[torch.arange(count), partner]
        counted = (cluster != cluster[partner]).float()  # (n,)
        wins += ((true[:, None] - false).sign() + 1) / 2 * counted
        pairs += counted
    clusters = int(cluster.max()) + 1
    drawn = integers(fold(torch.arange(RESAMPLED), key), clusters, clusters, 0)  # (times, clusters)
    times = torch.zeros(RESAMPLED, clusters).scatter_add_(1, drawn, torch.ones(drawn.shape))[:, cluster]  # (times, n)
    resampled = ((times @ wins) * times).sum(dim=1) / (times.sum(dim=1) * (times @ pairs))
    low, high = resampled[resampled.isfinite()].double().quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    area = float(wins.double().sum() / (count * pairs.double().sum()))
    return Gain(over=CHANCE, value=100 * area - 50, low=100 * low - 50, high=100 * high - 50)
