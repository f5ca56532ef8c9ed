"""Weights that no fresh network has, so that a comparison cannot pass because two things are both at their start."""

import pytest
import torch
from torch import nn

from sanslabel.encoders import Encoder, resnet, vit


@pytest.fixture
def shallow(monkeypatch):
    """Residual networks and transformers of few blocks: what a kind of encoder promises holds at any depth."""
    residual = {name: shape._replace(depths=(1, 1, 1, 1)) for name, shape in resnet.SHAPES.items()}
    monkeypatch.setattr(resnet, "SHAPES", residual)
    monkeypatch.setattr(vit, "SHAPES", {name: shape._replace(depth=2) for name, shape in vit.SHAPES.items()})


@pytest.fixture
def perturbed():
    """A function: the encoder, in evaluation mode, with noise on every weight and running statistic."""

    def perturb(encoder: Encoder) -> Encoder:
        generator = torch.Generator().manual_seed(0)

        def noise(like: torch.Tensor) -> torch.Tensor:
            return torch.randn(like.shape, generator=generator)

        norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
        with torch.no_grad():
            for parameter in encoder.parameters():
                # Matrices of transformers start so small that tokens would hardly read from each other.
                scale = 0.7 * parameter.shape[1] ** -0.5 if parameter.ndim == 2 else 0.2
                scale = 0.2 * parameter.std() if parameter.ndim == 4 else scale
                parameter += scale * noise(parameter)
            if norms:  # The statistics must fit the weights, or the outputs of deep networks grow to tens of thousands.
                for norm in norms:
                    norm.momentum = 1.0
                squares = torch.rand(8, encoder.config["channels"], 4, 4, generator=generator)
                encoder.train()(squares.repeat_interleave(16, dim=2).repeat_interleave(16, dim=3))
            for norm in norms:
                norm.momentum = 0.1
                norm.running_mean += 0.1 * norm.running_var.sqrt() * noise(norm.running_mean)
                norm.running_var *= 1 + 0.1 * noise(norm.running_var).clamp(-3, 3)
        return encoder.eval()

    return perturb
