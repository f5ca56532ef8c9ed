from __future__ import annotations

import torch
from torch import Tensor

from sanslabel.losses.precision import in_float32


@in_float32
def dino(student: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Cross-entropy between the teacher's distribution over outputs for one view and the student's for another.

    student: (V, N, K), logits of all views; target: (T, N, K), probabilities of the first T of them, which the caller
    detaches -> (N,), for every image the mean over t and v ≠ t of -Σ_K P_t log softmax(g_v/τ).
    ln K where the student is uniform, and never below the mean entropy of the targets. Caron et al. 2021, eq. 3.
    """
    log_p = (student / temperature).log_softmax(dim=-1)
    cross = -torch.einsum("tnk,vnk->tvn", target, log_p)
    others = [part for t, row in enumerate(cross) for part in (row[:t], row[t + 1 :])]  # a mask would be waited for
    return torch.cat(others).mean(dim=0)  # over T (V - 1) terms
