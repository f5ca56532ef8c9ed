from __future__ import annotations

from torch import Tensor

from sanslabel.losses.precision import in_float32


@in_float32
def squared_error(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Returns the mean squared error of each image, the energy of autoencoders.

    reconstruction, target: (N, ...) -> (N,). ‖r - y‖² / D over the D values of an image. The gradient reaches both.
    """
    return (reconstruction - target).square().flatten(1).mean(dim=1)
