from __future__ import annotations

from torch import Tensor

from sanslabel.losses.precision import in_float32


@in_float32
def squared_error(reconstruction: Tensor, target: Tensor) -> Tensor:
    """The mean squared error of each image, the energy of autoencoders.

    reconstruction, target: (N, ...) -> (N,). ‖r - y‖² / D over the D numbers of an image. A gradient flows into both.
    """
    return (reconstruction - target).square().flatten(1).mean(dim=1)
