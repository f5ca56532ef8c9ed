"""The small convnet against its formula."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sanslabel import encoders


def normalized(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    mean, var, weight, bias = (
        state[f"{name}.{tensor}"][:, None, None] for tensor in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias


def block(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    out = F.conv2d(x, state[f"{name}.conv1.weight"], stride=2, padding=1)
    out = torch.relu(normalized(out, state, f"{name}.bn1"))
    out = normalized(F.conv2d(out, state[f"{name}.conv2.weight"], padding=1), state, f"{name}.bn2")
    short = normalized(F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=2), state, f"{name}.downsample.1")
    return torch.relu(out + short)


def test_stages_by_formula(perturbed):
    encoder = perturbed(encoders.build("conv", channels=2, image_size=28))
    state = encoder.state_dict()
    images = torch.rand(3, 2, 28, 28, generator=torch.Generator().manual_seed(1))
    first = torch.relu(normalized(F.conv2d(images, state["stem.0.weight"], stride=2, padding=1), state, "stem.1"))
    second = block(first, state, "layer1")
    third = block(second, state, "layer2")
    for mine, other in zip(encoder.stages(images), (first, second, third), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(encoder(images), third.flatten(2).sum(2) / 16, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("size", "maps"), [(28, (14, 7, 4)), (8, (4, 2, 1)), (32, (16, 8, 4)), (9, (4, 2, 1))])
def test_every_stage_halves_the_maps(size, maps):
    stages = encoders.build("conv", channels=1, image_size=size).stages(torch.rand(2, 1, size, size))
    widths = (64, 128, 256)
    assert [stage.shape for stage in stages] == [
        (2, width, side, side) for width, side in zip(widths, maps, strict=True)
    ]


def test_parameters():
    assert sum(p.numel() for p in encoders.build("conv", channels=1).parameters()) == 1_150_336


@pytest.mark.parametrize("name", ["conv", "resnet18", "resnet50"])
def test_working_in_place_changes_no_gradient(name, shallow):
    torch.manual_seed(0)
    encoder = encoders.build(name, image_size=16).double()
    images = torch.rand(4, 3, 16, 16, dtype=torch.float64)
    gradients = []
    for inplace in (True, False):
        for module in encoder.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = inplace
        # every stage is read, as probes of the stages do
        loss = sum((stage.sin().mean() for stage in encoder.stages(images)), torch.zeros(()))
        gradients.append(torch.autograd.grad(loss, list(encoder.parameters())))
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-12, rtol=1e-9)
