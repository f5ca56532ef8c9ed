from __future__ import annotations

from torch import Tensor

from sanslabel.losses.precision import in_float32


@in_float32
def gaussian_kl(mean: Tensor, log_var: Tensor) -> Tensor:
    """The divergence KL(N(μ, σ²) ‖ N(0, 1)) in nats, summed over the dimensions: what a code costs.

    mean, log_var = ln σ²: (N, D) -> (N,). ½ Σ_i (σᵢ² + μᵢ² - 1 - ln σᵢ²), 0 at the prior.
    Kingma and Welling 2014 (VAE), appendix B.
    """
    return kl_by_dimension(mean, log_var).sum(dim=1)


@in_float32
def kl_by_dimension(mean: Tensor, log_var: Tensor) -> Tensor:
    """The same, of each dimension by itself -> (N, D): one whose mean over the data is near 0 carries nothing."""
    return (log_var.exp() + mean.square() - 1 - log_var) / 2


@in_float32
def sampled_kl(mean: Tensor, log_var: Tensor, z: Tensor) -> Tensor:
    """ln q(z) - ln p(z) in nats at a sample z of q = N(μ, σ²), with p = N(0, 1): its mean over z is `gaussian_kl`.

    mean, log_var, z: (N, D) -> (N,). ½ Σ_i (zᵢ² - (zᵢ - μᵢ)²/σᵢ² - ln σᵢ²).
    Kingma and Welling 2014 (VAE), eq. 6.
    """
    return (z.square() - (z - mean).square() * (-log_var).exp() - log_var).sum(dim=1) / 2
