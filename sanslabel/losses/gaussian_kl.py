from __future__ import annotations

from torch import Tensor

from sanslabel.losses.precision import in_float32


@in_float32
def gaussian_kl(mean: Tensor, log_var: Tensor) -> Tensor:
    """Returns the divergence KL(N(μ, σ²) ‖ N(0, 1)) in nats, summed over the dimensions: the cost of a code.

    mean, log_var = ln σ²: (N, D) -> (N,). ½ Σ_i (σᵢ² + μᵢ² - 1 - ln σᵢ²), 0 at the prior.
    Kingma and Welling 2014 (VAE), appendix B.
    """
    return kl_by_dimension(mean, log_var).sum(dim=1)


@in_float32
def kl_by_dimension(mean: Tensor, log_var: Tensor) -> Tensor:
    """Returns the divergence of each dimension, in nats: (N, D) -> (N, D). A dimension whose mean divergence is near 0
    carries no information."""
    return (log_var.exp() + mean.square() - 1 - log_var) / 2


@in_float32
def sampled_kl(mean: Tensor, log_var: Tensor, z: Tensor) -> Tensor:
    """Returns ln q(z) - ln p(z) in nats at a sample z of q = N(μ, σ²), with p = N(0, 1). Its mean is `gaussian_kl`.

    mean, log_var, z: (N, D) -> (N,). ½ Σ_i (zᵢ² - (zᵢ - μᵢ)²/σᵢ² - ln σᵢ²).
    Kingma and Welling 2014 (VAE), eq. 6.
    """
    return (z.square() - (z - mean).square() * (-log_var).exp() - log_var).sum(dim=1) / 2
