"""Images and spectrograms as pictures for people."""

from __future__ import annotations

import torch
from torch import Tensor


def stretched(images: Tensor) -> Tensor:
    """Returns images in [0, 1] as they are. Others, such as spectrograms, become 0 at their least number and 1 at their
    greatest, each by itself, so that a picture does not depend on the batch.

    images: (N, C, H, W) -> (N, C, H, W) in [0, 1].
    """
    low, high = images.amin(dim=(1, 2, 3), keepdim=True), images.amax(dim=(1, 2, 3), keepdim=True)
    return torch.where((low >= 0) & (high <= 1), images, (images - low) / (high - low).clamp(min=1e-12))
