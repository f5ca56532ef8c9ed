"""Small networks between representation and loss; they are dropped after training."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from sanslabel.distributed import shard, world_size

RELU = partial(nn.ReLU, inplace=True)


def projector(
    *widths: int,
    norm: bool = True,
    final_norm: bool = False,
    affine: bool = True,
    bias: bool = False,
    final_bias: bool | None = None,
    activation: Callable[[], nn.Module] = RELU,
    std: float | None = None,
) -> nn.Sequential:
    """Linear layers between the given widths, (N, widths[0]) -> (N, widths[-1]), with BatchNorm and ReLU between them.
    Predictors, which only one side of a pair has, are made of the same.

    norm: whether there is BatchNorm; without it every layer has a bias.
    final_norm: BatchNorm after the last layer, too, whose bias stays 0 (SimCLR's official code).
    affine: whether that last one has a scale; without it its output has variance 1 (SimSiam, MoCo v3).
    bias: biases under BatchNorm, where they are redundant; VICReg's expander and BYOL's heads have them.
    final_bias: of the last layer; None is that there is one where there is no BatchNorm.
    activation: in the place of ReLU.
    std: of a truncated normal that the weights are drawn from, with biases 0 (DINO); None is torch's start.
    """
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(zip(widths, widths[1:], strict=False)):
        last = i == len(widths) - 2
        biased = not norm or (bias and not last)
        layers.append(
            layer := nn.Linear(inputs, outputs, bias=final_bias if last and final_bias is not None else biased)
        )
        if std is not None:
            nn.init.trunc_normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        if norm and (final_norm or not last):
            layers.append(batch_norm := nn.BatchNorm1d(outputs, affine=affine or not last))
            if last and affine:
                batch_norm.bias.requires_grad_(False)
        if not last:
            layers.append(activation())
    return nn.Sequential(*layers)


class Prototypes(nn.Module):
    """Vectors of unit length that embeddings are compared with: the scores are cosines.

    z: (N, D), normalized inside -> (N, count), in float32 also under autocast: divided by a temperature of 0.05, what
    bfloat16 rounds away would change a softmax by a tenth.
    """

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, width))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)  # of a linear layer in torch
        self.normalize_()

    def forward(self, z: Tensor, frozen: bool = False) -> Tensor:
        """frozen: whether the gradient passes the prototypes by, as it does in the first epochs of SwAV."""
        with torch.autocast(z.device.type, enabled=False):
            z = normalize(z.to(self.weight.dtype), dim=-1)
            return linear(z, self.weight.detach() if frozen else self.weight)

    @torch.no_grad()
    def normalize_(self) -> None:
        """Brings the rows back to unit length, after an update."""
        self.weight.copy_(normalize(self.weight, dim=1))


class Directions(nn.Module):
    """Vectors that embeddings are compared with and whose lengths do not count: weight normalization with length 1. The
    scores are cosines, as those of `Prototypes`, but it is the gradient that is projected, not the weights.

    z: (N, D), normalized inside -> (N, count), in float32 also under autocast.
    """

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, width))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)  # of a linear layer in torch

    def forward(self, z: Tensor, frozen: bool = False) -> Tensor:
        """frozen: whether the gradient passes the vectors by, as it does in the first epochs of DINO."""
        with torch.autocast(z.device.type, enabled=False):
            weight = self.weight.detach() if frozen else self.weight
            z = z if z.dtype == weight.dtype else z.float()
            return linear(normalize(z, dim=-1), normalize(weight, dim=1))


class Dropout(nn.Module):
    """Each number becomes 0 with this probability in training, and the others grow to keep the mean. The mask is drawn
    for the global batch, so that many processes drop what one would. (N, D) -> (N, D)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return x
        drawn = torch.rand(len(x) * world_size(), *x.shape[1:], device=x.device)
        kept = shard(drawn) >= self.probability
        return torch.where(kept, x / max(1 - self.probability, 1e-6), 0)


class RowContext(nn.Module):
    """What the rows of a grid up to each place's own say about it: residual blocks of a 1x1, a causal 2x3 and a 1x1
    convolution (Hénaff et al. 2020, appendix). A block looks one row further up and never down.

    grid: (N, D, R, C) -> (N, D, R, C). There is no normalization: over a whole map it would tell of the rows below.
    """

    def __init__(self, width: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(),
                nn.Conv2d(width, hidden, 1),
                nn.ReLU(),
                nn.ZeroPad2d((1, 1, 1, 0)),  # left, right, above, nothing below
                nn.Conv2d(hidden, hidden, (2, 3)),
                nn.ReLU(),
                nn.Conv2d(hidden, width, 1),
            )
            for _ in range(blocks)
        )

    def forward(self, grid: Tensor) -> Tensor:
        for block in self.blocks:
            grid = grid + block(grid)
        return grid
