"""retrieval: the mean average precision of test images that search the training images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sanslabel.evaluation.comparison import Comparison
from sanslabel.evaluation.knn import cosines
from sanslabel.evaluation.protocol import Protocol
from sanslabel.randomness import Stream, fold, permutation
from sanslabel.scores import Score

BLOCK = 1 << 24
"""similarities that are sorted at once"""
QUERIES = 1000
"""test samples that search the training samples; sorting 60,000 similarities for each of them takes seconds"""


@dataclass(frozen=True, kw_only=True)
class Retrieval(Protocol):
    """The mean average precision of up to 1,000 test images, each of which searches all training images."""

    title = "Mean average precision in %"

    def measure(self, comparison: Comparison) -> list[Score]:
        division = comparison.division
        queries = permutation(fold(comparison.seed, Stream.QUERIES), len(division.test))[:QUERIES]
        queries = queries.to(division.test.device)
        measured = int(torch.isin(division.test[queries], division.train).sum())  # the others have no class to find
        settings = {"queries": measured, "gallery": "training rows"}
        scores = []
        for name, (train, test) in comparison.features.items():
            comparison.report(f"Measuring {name}: {self.name}")
            value = mean_average_precision(train, division.train, test[queries], division.test[queries])
            scores.append(comparison.score(self, "mAP", name, value, division, settings, n_test=measured))
        return scores


@torch.no_grad()
def mean_average_precision(gallery: Tensor, labels: Tensor, queries: Tensor, query_labels: Tensor) -> float:
    """Returns the mean of the queries' average precision, in %.

    A query ranks all gallery samples by cosine, the nearest first; among equally near samples, the earlier comes first.
    The precision at a rank is the share of the query's class among the samples down to that rank. A query's average
    precision is the mean precision at the ranks of its class. Queries whose class the gallery lacks are left out. The
    result is nan if no query is left.

    gallery: (N, D), labels: (N,), queries: (M, D), query_labels: (M,). 2²⁴ similarities are in memory at once.
    """
    count = max(1, BLOCK // len(gallery))
    rank = torch.arange(1, len(gallery) + 1, device=gallery.device, dtype=torch.float64)
    precisions = []
    for similarity, classes in zip(cosines(queries, gallery, count), query_labels.split(count), strict=True):
        order = similarity.argsort(dim=1, descending=True, stable=True)
        correct = (labels[order] == classes[:, None]).double()  # (m, N)
        hits = correct.sum(dim=1)
        precision = (correct.cumsum(dim=1) / rank * correct).sum(dim=1) / hits
        precisions.append(precision[hits > 0])
    return 100 * torch.cat(precisions).mean().item()
