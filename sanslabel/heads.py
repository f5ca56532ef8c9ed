"""Small networks between representation and loss; they are dropped after training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize


def projector(
    *widths: int,
    norm: bool = True,
    final_norm: bool = False,
    affine: bool = True,
    bias: bool = False,
    final_bias: bool | None = None,
) -> nn.Sequential:
    """Linear layers between the given widths, (N, widths[0]) -> (N, widths[-1]), with BatchNorm and ReLU between them.
    Predictors, which only one side of a pair has, are made of the same.

    norm: whether there is BatchNorm; without it every layer has a bias.
    final_norm: BatchNorm after the last layer, too, whose bias stays 0 (SimCLR's official code).
    affine: whether that last one has a scale; without it its output has variance 1 (SimSiam, MoCo v3).
    bias: biases under BatchNorm, where they are redundant; VICReg's expander and BYOL's heads have them.
    final_bias: of the last layer; None is that there is one where there is no BatchNorm.
    """
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(zip(widths, widths[1:], strict=False)):
        last = i == len(widths) - 2
        biased = not norm or (bias and not last)
        layers.append(nn.Linear(inputs, outputs, bias=final_bias if last and final_bias is not None else biased))
        if norm and (final_norm or not last):
            layers.append(batch_norm := nn.BatchNorm1d(outputs, affine=affine or not last))
            if last and affine:
                batch_norm.bias.requires_grad_(False)
        if not last:
            layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class Prototypes(nn.Module):
    """Vectors of unit length that embeddings are compared with: the scores are cosines.

    z: (N, D), normalized inside -> (N, count).
    """

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, width))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)  # of a linear layer in torch
        self.normalize_()

    def forward(self, z: Tensor, frozen: bool = False) -> Tensor:
        """frozen: whether the gradient passes the prototypes by, as it does in the first epochs of SwAV."""
        return linear(normalize(z.float(), dim=-1), self.weight.detach() if frozen else self.weight)

    @torch.no_grad()
    def normalize_(self) -> None:
        """Brings the rows back to unit length, after an update."""
        self.weight.copy_(normalize(self.weight, dim=1))
