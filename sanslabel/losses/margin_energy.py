from __future__ import annotations

from torch import Tensor, eye
from torch.nn.functional import normalize

from sanslabel.losses.precision import in_float32


@in_float32
def margin_energy(real: Tensor, fake: Tensor, margin: float) -> Tensor:
    """What a cost network descends: low energy for data, and at least the margin for every generated sample.

    real, fake: (N,) and (M,), energies of 0 or more -> (). mean(C(y)) + mean([m - C(ŷ)]₊), the hinge of each sample by
    itself: one that is far beyond the margin makes up for no other. m where the energies of both are one number up to
    the margin, as they are at the equilibrium. Zhao et al. 2017 (EBGAN), eq. 1.
    """
    return real.mean() + (margin - fake).relu().mean()


@in_float32
def pull_away(codes: Tensor) -> Tensor:
    """The mean squared cosine over ordered pairs of codes, high where generated samples are all alike.

    codes: (N, D) -> (). 1/(N(N - 1)) Σ_{i≠j} cos²(sᵢ, sⱼ): 1 where all are on one line, 0 where they are orthogonal.
    Zhao et al. 2017 (EBGAN), eq. 4.
    """
    unit = normalize(codes, dim=1)
    n = len(codes)
    alike = (unit @ unit.T).square() * (1 - eye(n, dtype=unit.dtype, device=unit.device))
    return alike.sum() / (n * (n - 1))
