"""Whether images of one class are found first, searched by an image of it."""

from __future__ import annotations

import torch
from torch import Tensor

from sanslabel.evaluation.knn import cosines

BLOCK = 1 << 24
"""similarities that are sorted at once"""


@torch.no_grad()
def mean_average_precision(gallery: Tensor, labels: Tensor, queries: Tensor, query_labels: Tensor) -> float:
    """The mean over queries of their average precision, in %: of all gallery rows by cosine, the nearest first, the
    precision down to each that has the query's class, averaged over these. Of equally near rows the earlier ones count
    first; queries whose class the gallery lacks are left out. nan where all are.

    gallery: (N, D), labels: (N,), queries: (M, D), query_labels: (M,). Holds 2²⁴ similarities at once.
    """
    rows = max(1, BLOCK // len(gallery))
    rank = torch.arange(1, len(gallery) + 1, device=gallery.device, dtype=torch.float64)
    found = []
    for part, asked in zip(cosines(queries, gallery, rows), query_labels.split(rows), strict=True):
        order = part.argsort(dim=1, descending=True, stable=True)
        right = (labels[order] == asked[:, None]).double()  # (m, N)
        count = right.sum(dim=1)
        precision = (right.cumsum(dim=1) / rank * right).sum(dim=1) / count
        found.append(precision[count > 0])
    return 100 * torch.cat(found).mean().item()
