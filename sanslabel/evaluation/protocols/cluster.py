"""cluster: k-means with as many clusters as there are classes, and how far the clusters agree with the labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sanslabel.evaluation.comparison import Comparison
from sanslabel.evaluation.protocol import NotMeasurable, Protocol
from sanslabel.scores import Score

STARTS = 10
"""starts of k-means, of which the best is kept"""


@dataclass(frozen=True, kw_only=True)
class Cluster(Protocol):
    """The agreement of clusters with classes: normalized mutual information, adjusted Rand index and accuracy."""

    title = "Clusters against labels, in %"
    needs = "scikit-learn"

    def measure(self, comparison: Comparison) -> list[Score]:
        division = comparison.division
        train, test, classes = division.train, division.test, division.classes
        settings = {
            "clusters": classes,
            "selection": f"of {STARTS} starts the one whose training rows are nearest to their centroids",
            "matching": "of clusters with classes, on training rows",
        }
        scores = []
        for name, features in comparison.features.items():
            comparison.report(f"Measuring {name}: {self.name}")
            agreed = agreement(features.train, train, features.test, test, classes=classes, seed=comparison.seed)
            figures = {"NMI": agreed.information, "ARI": agreed.rand, "accuracy": agreed.accuracy}
            scores += [comparison.score(self, metric, name, x, division, settings) for metric, x in figures.items()]
        return scores


class Agreement(NamedTuple):
    """The agreement of the test samples' clusters with their classes, in %."""

    information: float
    """mutual information, normalized by the arithmetic mean of the entropies"""
    rand: float
    """adjusted Rand index: 0 by chance, 100 if clusters are classes"""
    accuracy: float
    """accuracy of the best matching of clusters with classes"""


@torch.no_grad()
def agreement(
    train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor, *, classes: int, seed: int
) -> Agreement:
    """Returns the agreement of k-means with the labels.

    k-means runs on the normalized training samples, with as many clusters as classes. Of ten starts, the one whose
    samples are nearest to their centroids is kept. Test samples join the nearest centroid. Labels do not influence the
    clusters. Clusters are matched with classes on the training samples (Kuhn 1955).

    train: (N, D), labels: (N,), test: (M, D), test_labels: (M,). Raises NotMeasurable without scikit-learn.
    """
    try:
        from scipy.optimize import linear_sum_assignment
        from sklearn.cluster import KMeans
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    except ImportError as error:
        raise NotMeasurable('--protocols cluster needs scikit-learn; pip install "sanslabel[eval]".') from error
    train_points, test_points = (F.normalize(x.float(), dim=1).cpu().numpy() for x in (train, test))
    starts: Any = STARTS  # scikit-learn's stubs admit a string only
    means = KMeans(classes, n_init=starts, random_state=seed % 2**32).fit(train_points)
    train_clusters, test_clusters = (
        torch.from_numpy(means.labels_).long(),
        torch.from_numpy(means.predict(test_points)).long(),
    )
    table = torch.bincount(train_clusters * classes + labels.cpu(), minlength=classes**2).view(classes, classes)
    _, class_of = linear_sum_assignment(table.numpy(), maximize=True)
    truth = test_labels.cpu()
    return Agreement(
        information=100 * float(normalized_mutual_info_score(truth.numpy(), test_clusters.numpy())),
        rand=100 * float(adjusted_rand_score(truth.numpy(), test_clusters.numpy())),
        accuracy=100 * float((torch.from_numpy(class_of)[test_clusters] == truth).double().mean()),
    )
