"""Fully connected layers: projectors, predictors and classifiers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

RELU = partial(nn.ReLU, inplace=True)


def mlp(
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
