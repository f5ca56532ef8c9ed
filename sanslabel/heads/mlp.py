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
    """Returns linear layers between the given widths, (N, widths[0]) -> (N, widths[-1]), with BatchNorm and ReLU
    between them.

    norm: use BatchNorm; without it every layer has a bias.
    final_norm: use BatchNorm after the last layer, too; its bias stays 0 (SimCLR's official code).
    affine: give that last BatchNorm a scale; without one its output has variance 1 (SimSiam, MoCo v3).
    bias: give layers before BatchNorm a bias, which is redundant; VICReg's expander and BYOL's heads have it.
    final_bias: give the last layer a bias; None gives it one only if there is no BatchNorm.
    activation: the function in place of ReLU.
    std: deviation of the truncated normal that weights are drawn from, with biases 0 (DINO); None is torch's default.
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
