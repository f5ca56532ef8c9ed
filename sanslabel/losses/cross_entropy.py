from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from sanslabel.losses.precision import in_float32


@in_float32
def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Returns the mean cross-entropy of the samples that have a label.

    logits: (N, C); labels: (N,) int64, -1 for a sample without a label -> (). ℓ(i) = -Σ_c q_c log softmax(logitsᵢ)_c,
    where q is `smoothing` / C for every class, and 1 - `smoothing` more for the label. It is ln C if all logits are
    equal, and 0 if no sample has a label.
    """
    labeled = (labels >= 0).sum().clamp(min=1)
    total = F.cross_entropy(logits, labels, ignore_index=-1, label_smoothing=smoothing, reduction="sum")
    return total / labeled
