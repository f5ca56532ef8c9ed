from __future__ import annotations

from torch import Tensor, eye
from torch.nn.functional import normalize

from sanslabel.losses.precision import in_float32


@in_float32
def margin_energy(real: Tensor, fake: Tensor, margin: float) -> Tensor:
    """Returns the loss of a cost network: data should have low energy, and each generated sample at least the margin.

    real, fake: (N,) and (M,), energies of 0 or more -> (). mean(C(y)) + mean([m - C(ŷ)]₊). Each sample has its own
    hinge, so a sample far beyond the margin does not offset another. The loss is m if all energies are equal and at
    most m, as at the equilibrium. Zhao et al. 2017 (EBGAN), eq. 1.
    """
    return real.mean() + (margin - fake).relu().mean()


@in_float32
def pull_away(codes: Tensor) -> Tensor:
    """Returns the mean squared cosine over ordered pairs of codes, which is high if generated samples are all alike.

    codes: (N, D) -> (). 1/(N(N - 1)) Σ_{i≠j} cos²(sᵢ, sⱼ): 1 if all are on one line, 0 if they are orthogonal.
    Zhao et al. 2017 (EBGAN), eq. 4.
    """
    unit = normalize(codes, dim=1)
    n = len(codes)
    alike = (unit @ unit.T).square() * (1 - eye(n, dtype=unit.dtype, device=unit.device))
    return alike.sum() / (n * (n - 1))
