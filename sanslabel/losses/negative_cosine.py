from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cosine_similarity

from sanslabel.losses.precision import in_float32


@in_float32
def negative_cosine(p: Tensor, z: Tensor) -> Tensor:
    """Returns minus the mean cosine of paired rows, the energy of SimSiam; BYOL has 2 plus twice this value.

    p: (N, D), predictions; z: (N, D), targets, which the caller detaches -> (), from -1 (all pairs agree; also the
    value at collapse) to 1. Chen and He 2021, eq. 1; Grill et al. 2020, eq. 2.
    """
    return -cosine_similarity(p, z, dim=1).mean()
