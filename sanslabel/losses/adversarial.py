from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus

from sanslabel.losses.precision import in_float32


@in_float32
def discrimination(real: Tensor, fake: Tensor) -> Tensor:
    """Returns the loss of a discriminator: the binary cross-entropy of distinguishing data from generated samples.

    real, fake: (N,) and (M,), logits that a sample is data -> (). mean(-ln D(y)) + mean(-ln(1 - D(ŷ))) with D =
    sigmoid(logit), computed on the logits; 2 ln 2 if every D is ½. Goodfellow et al. 2014, eq. 1.
    """
    return softplus(-real).mean() + softplus(fake).mean()


@in_float32
def deception(fake: Tensor) -> Tensor:
    """Returns the loss of a generator: the cross-entropy of its samples with the label of data. Its gradient remains
    where the discriminator is sure; there the gradient of ln(1 - D) would vanish.

    fake: (N,) logits -> (). mean(-ln D(ŷ)); ln 2 if every D is ½. Goodfellow et al. 2014, section 3.
    """
    return softplus(-fake).mean()
