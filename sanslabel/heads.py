"""Small networks between representation and loss; they are dropped after training."""

from __future__ import annotations

from torch import nn


def projector(*widths: int, norm: bool = True, final_norm: bool = False, bias: bool = False) -> nn.Sequential:
    """Linear layers between the given widths, (N, widths[0]) -> (N, widths[-1]), with BatchNorm and ReLU between them.

    norm: whether there is BatchNorm; without it every layer has a bias.
    final_norm: BatchNorm after the last layer, too, whose bias stays 0 (SimCLR's official code).
    bias: biases under BatchNorm, where they are redundant; VICReg's expander has them.
    """
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(zip(widths, widths[1:], strict=False)):
        last = i == len(widths) - 2
        layers.append(nn.Linear(inputs, outputs, bias=not norm or (bias and not last)))
        if norm and (final_norm or not last):
            layers.append(batch_norm := nn.BatchNorm1d(outputs))
            batch_norm.bias.requires_grad_(not last)
        if not last:
            layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
