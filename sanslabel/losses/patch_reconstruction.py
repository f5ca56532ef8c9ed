from __future__ import annotations

from torch import Tensor

from sanslabel.losses.precision import in_float32


@in_float32
def patch_reconstruction(prediction: Tensor, patches: Tensor, normalized: bool = True) -> Tensor:
    """Returns the mean squared error of the masked patches' pixels, which are normalized patch by patch.

    prediction, patches: (N, M, P), of the M patches that were masked -> (N,).
    1/M Σ_m ‖p_m - (t_m - mean(t_m))/sqrt(var(t_m) + 1e-6)‖²/P, the variance with P - 1. The value for predictions of 0
    is (P - 1)/P, and less if patches are flat. He et al. 2022, section 3.

    normalized: bring the pixels of each patch to mean 0 and variance 1; False takes them as they are.
    """
    target = patches
    if normalized:
        centered = patches - patches.mean(dim=2, keepdim=True)
        target = centered / (patches.var(dim=2, keepdim=True) + 1e-6).sqrt()
    return (prediction - target).square().mean(dim=(1, 2))
