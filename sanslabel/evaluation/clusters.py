"""How far clusters that were found without labels agree with them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sanslabel.errors import BadInput

STARTS = 10
"""of k-means, of which the best is kept"""


class Agreement(NamedTuple):
    """Of test rows' clusters with their classes, in %."""

    information: float
    """normalized mutual information, by the arithmetic mean of the entropies"""
    rand: float
    """adjusted Rand index: 0 by chance, 100 where clusters are classes"""
    accuracy: float
    """of the best matching of clusters with classes"""


@torch.no_grad()
def agreement(
    train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor, *, classes: int, seed: int
) -> Agreement:
    """k-means on the normalized training rows, as many clusters as classes, of ten starts the one whose rows are
    nearest to their centroids; test rows join the nearest centroid.

    train: (N, D), labels: (N,), test: (M, D), test_labels: (M,). Labels take no part in the clusters; clusters are
    matched with classes on the training rows (Kuhn 1955). BadInput without scikit-learn.
    """
    try:
        from scipy.optimize import linear_sum_assignment
        from sklearn.cluster import KMeans
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    except ImportError as error:
        raise BadInput('The protocol cluster needs scikit-learn; pip install "sanslabel[eval]".') from error
    on_train, on_test = (F.normalize(x.float(), dim=1).cpu().numpy() for x in (train, test))
    starts: Any = STARTS  # the stubs know a word alone
    means = KMeans(classes, n_init=starts, random_state=seed % 2**32).fit(on_train)
    of_train, of_test = torch.from_numpy(means.labels_).long(), torch.from_numpy(means.predict(on_test)).long()
    table = torch.bincount(of_train * classes + labels.cpu(), minlength=classes**2).view(classes, classes)
    _, class_of = linear_sum_assignment(table.numpy(), maximize=True)
    truth = test_labels.cpu()
    return Agreement(
        information=100 * float(normalized_mutual_info_score(truth.numpy(), of_test.numpy())),
        rand=100 * float(adjusted_rand_score(truth.numpy(), of_test.numpy())),
        accuracy=100 * float((torch.from_numpy(class_of)[of_test] == truth).double().mean()),
    )
