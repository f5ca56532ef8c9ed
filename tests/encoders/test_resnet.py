"""ResNets against torchvision's."""

import pytest
import torch
import torchvision
from torch import nn

from sanslabel import encoders
from sanslabel.encoders import resnet
from sanslabel.encoders.resnet import BasicBlock, Bottleneck
from sanslabel.errors import BadInput


def reference(name: str, depths=None) -> nn.Module:
    """torchvision's network without its classifier; with other numbers of blocks where depths are given."""
    if depths is None:
        network = getattr(torchvision.models, name)()
    else:
        block = torchvision.models.resnet.Bottleneck if name == "resnet50" else torchvision.models.resnet.BasicBlock
        network = torchvision.models.ResNet(block, list(depths))
    network.fc = nn.Identity()
    return network


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_names_and_shapes_are_torchvisions(name):
    with torch.device("meta"):
        ours, theirs = encoders.build(name), reference(name)
    assert [(key, value.shape) for key, value in ours.state_dict().items()] == [
        (key, value.shape) for key, value in theirs.state_dict().items()
    ]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("training", [False, True])
def test_same_output_and_gradient_as_torchvision(name, training, perturbed, monkeypatch):
    depths = (2, 1, 1, 2)
    monkeypatch.setattr(resnet, "SHAPES", {name: resnet.SHAPES[name]._replace(depths=depths)})
    ours = perturbed(encoders.build(name, image_size=224)).train(training)
    theirs = reference(name, depths)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    theirs.train(training)
    images = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))
    weights = torch.randn(2, ours.width, generator=torch.Generator().manual_seed(2))
    inputs, outputs = [], []
    for network in (ours, theirs):
        inputs.append(images.clone().requires_grad_())
        outputs.append(network(inputs[-1]))
        (outputs[-1] * weights).mean().backward()

    spread = outputs[1].detach().std().item()
    assert spread > 0.1
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-4 * max(1, spread), rtol=0)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, atol=1e-6, rtol=1e-3)
    for (key, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-5, rtol=1e-3, msg=key)
    for (key, mine), other in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-3, msg=key)


def test_stages_are_torchvisions(perturbed):
    ours = perturbed(encoders.build("resnet18"))
    theirs = reference("resnet18")
    theirs.load_state_dict(ours.state_dict(), strict=True)
    theirs.eval()
    outputs = []
    theirs.maxpool.register_forward_pre_hook(lambda _, inputs: outputs.append(inputs[0].clone()))
    for layer in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
        layer.register_forward_hook(lambda _, inputs, output: outputs.append(output.clone()))
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    theirs(images)
    stages = ours.stages(images)
    sizes = [(64, 112), (64, 56), (128, 28), (256, 14), (512, 7)]
    assert [stage.shape for stage in stages] == [(2, channels, side, side) for channels, side in sizes]
    for mine, other in zip(stages, outputs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)


def test_small_stem_is_torchvisions_with_another_first_layer(perturbed):
    ours = perturbed(encoders.build("resnet18", channels=1, image_size=32))
    theirs = reference("resnet18")
    theirs.conv1 = nn.Conv2d(1, 64, 3, stride=1, padding=1, bias=False)
    theirs.maxpool = nn.Identity()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    images = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours(images), theirs.eval()(images), atol=1e-4, rtol=0)
    sizes = [(64, 32), (64, 32), (128, 16), (256, 8), (512, 4)]
    assert [stage.shape for stage in ours.stages(images)] == [(2, channels, side, side) for channels, side in sizes]


def test_the_default_stem_depends_on_the_image_size():
    with torch.device("meta"):
        assert [encoders.build("resnet18", image_size=size).conv1.kernel_size[0] for size in (64, 65)] == [3, 7]


def test_widening_multiplies_the_channels_of_every_layer():
    with torch.device("meta"):
        plain, wide = (encoders.build("resnet50", widening=factor) for factor in (1, 2))
        assert wide.width == 2 * plain.width == 4096
        again = encoders.build(**wide.config)
    for (key, one), two in zip(plain.state_dict().items(), again.state_dict().values(), strict=True):
        channels = [2 * side for side in one.shape[:2]] if key != "conv1.weight" else [2 * one.shape[0], 3]
        assert list(two.shape) == [*channels, *one.shape[2:]], key
    with pytest.raises(BadInput, match="widening is 0: give a whole factor"):
        encoders.build("resnet18", widening=0)


def test_weights_start_as_torchvisions():
    torch.manual_seed(0)
    ours, theirs = encoders.build("resnet18").state_dict(), reference("resnet18").state_dict()
    for key, value in theirs.items():
        if value.ndim == 4:
            assert ours[key].std() / value.std() == pytest.approx(1, abs=0.05), key
            assert abs(ours[key].mean()) < 0.05 * value.std(), key
        else:
            assert torch.equal(ours[key], value), key


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_residuals_may_start_at_zero(name):
    """Every block is then its shortcut alone."""
    encoder = encoders.build(name, channels=1, image_size=16, zero_residual=True)
    again = encoders.build(**encoder.config)
    blocks = [m for m in again.modules() if isinstance(m, BasicBlock | Bottleneck)]
    assert len(blocks) == {"resnet18": 8, "resnet50": 16}[name]
    for block in blocks:
        x = torch.rand(4, block.conv1.in_channels, 8, 8)
        torch.testing.assert_close(block(x), torch.relu(x if block.downsample is None else block.downsample(x)))
