"""Gaussian blur as a matrix over one axis."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

SHARP = 1e-3
"""deviation in pixels of a Gaussian whose weight on neighbors is 0 in any precision, so that its matrix is the
identity"""


def radius(size: int) -> int:
    """Returns the radius of the kernel for images of `size` pixels. The kernel takes a tenth of the image as in
    SimCLR's code (23 pixels of 224), but at least 3 pixels (at 28 and 32). Reflection needs a radius below the size."""
    return min(max(size // 20, 1), size - 1)


def blur_matrices(sigma: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Returns the matrices that blur an axis of `size` pixels, reflected at its ends.

    sigma: (N,), in pixels, 0 for no blur -> (N, size, size) in `dtype`, whose rows sum to 1.
    Kernel and padding are those of torchvision's gaussian_blur; Chen et al. 2020, appendix A.
    """
    reach = radius(size)
    offset = torch.arange(-reach, reach + 1, device=sigma.device)
    kernel = torch.softmax(-0.5 * (offset / sigma.clamp(min=SHARP)[:, None]).square(), dim=1)  # (N, K)
    return (kernel.to(dtype) @ _taps(size, reach, dtype, sigma.device)).view(-1, size, size)


@lru_cache(maxsize=16)
def _taps(size: int, reach: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Returns a matrix for each of the K weights of the kernel, (K, size · size). Its entry (i, j) is 1 if output pixel
    i reads input pixel j with this weight."""
    pixel = torch.arange(size, device=device) + torch.arange(-reach, reach + 1, device=device)[:, None]  # (K, S)
    last = size - 1
    reflected = last - (last - pixel.abs()).abs()
    return torch.nn.functional.one_hot(reflected, size).to(dtype).flatten(1)
