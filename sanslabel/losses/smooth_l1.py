from __future__ import annotations

from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from sanslabel.losses.precision import in_float32


@in_float32
def smooth_l1(prediction: Tensor, target: Tensor, beta: float = 1.0) -> Tensor:
    """Returns the smooth L1 distance of each sample: the mean of d²/(2β) for differences |d| below β, and of |d| - β/2
    above.

    prediction, target: (N, ...); the caller detaches the target -> (N,). 1/(2β) if predictions are 0, and targets are
    below β with mean square 1. Baevski et al. 2022 (data2vec), eq. 2, with β = 2; I-JEPA's code has β = 1.
    """
    return smooth_l1_loss(prediction, target, reduction="none", beta=beta).flatten(1).mean(dim=1)
