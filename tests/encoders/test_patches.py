"""Patches, and encoders that read images patch by patch."""

import json

import pytest
import torch
import torch.nn.functional as F

from sanslabel import encoders
from sanslabel.encoders.patches import patches, standardized
from sanslabel.encoders.resnet import Conv3x3
from sanslabel.errors import BadInput


def images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(("size", "stride"), [(8, 4), (7, 3), (4, 4), (28, 5), (3, 10)])
def test_patches_are_those_of_unfold(size, stride):
    x = images(2, 3, 28, 31)
    expected = F.unfold(x, size, stride=stride).mT.unflatten(2, (3, size, size))  # (N, P, C, s, s)
    assert torch.equal(patches(x, size, stride), expected)


def test_the_paper_has_seven_rows_of_patches_that_overlap_by_half():
    x = torch.arange(256 * 256.0).view(1, 1, 256, 256)
    cut = patches(x, 64, 32)
    assert cut.shape == (1, 49, 1, 64, 64)
    assert (256 - 64) // 32 + 1 == 7
    assert cut[0, 7 * 2 + 3, 0, 0, 0] == 256 * 64 + 96
    assert torch.equal(cut[0, 8, 0, :, :32], cut[0, 7, 0, :, 32:])


def test_each_patch_is_standardized_by_itself():
    cut = 0.05 * torch.randn(4, 5, 3, 16, 16) + torch.rand(4, 5, 1, 1, 1)
    ours = standardized(cut)
    for i in range(4):
        for k in range(5):
            values = cut[i, k]
            by_hand = (values - values.mean()) / (4 * (values.std(correction=0) + 0.01)) + 0.5
            torch.testing.assert_close(ours[i, k], by_hand.clamp(0, 1))
    torch.testing.assert_close(standardized(cut + 0.3), ours, atol=1e-4, rtol=0)
    torch.testing.assert_close(standardized(torch.full((2, 3, 4, 4), 0.7)), torch.full((2, 3, 4, 4), 0.5))  # flat stays


@pytest.mark.parametrize("name", ["conv", "resnet18", "vit_micro"])
def test_the_mean_over_patches_is_the_loop(name, perturbed, shallow):
    encoder = perturbed(encoders.build(name, channels=2, image_size=16))
    encoder.read_patches_(8, 4)
    x = images(3, 2, 16, 20)
    for image, ours in zip(x, encoder(x), strict=True):
        vectors = [
            encoder.image_representation(standardized(image[:, top : top + 8, left : left + 8])[None])[0]
            for top in (0, 4, 8)
            for left in (0, 4, 8, 12)
        ]
        torch.testing.assert_close(ours, torch.stack(vectors).mean(dim=0), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(encoder(x), encoder.image_representation(x), atol=1e-2)


def test_an_image_of_one_patch_is_read_as_it_is(perturbed):
    encoder = perturbed(encoders.build("conv", channels=1, image_size=16))
    x = images(4, 1, 8, 8)
    before = encoder(x)
    encoder.read_patches_(8, 4)
    assert torch.equal(encoder(x), before)
    assert torch.equal(encoder.image_representation(x), before)


def test_the_configuration_keeps_how_patches_are_read(perturbed):
    encoder = perturbed(encoders.build("conv", channels=1, image_size=28))
    encoder.read_patches_(8, 9)
    again = encoders.build(**json.loads(json.dumps(encoder.config))).eval()
    again.load_state_dict(encoder.state_dict())
    assert again.patches == (8, 9)
    x = images(2, 1, 28, 28)
    assert torch.equal(again(x), encoder(x))


@pytest.mark.parametrize("stride", [1, 2])
def test_a_map_of_one_pixel_takes_the_kernels_centers(stride):
    layer = Conv3x3(32, 64, stride)
    x = torch.randn(8, 32, 1, 1)
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight, stride=stride, padding=1))
    layer(x).square().sum().backward()
    ours, layer.weight.grad = layer.weight.grad, None
    F.conv2d(x, layer.weight, stride=stride, padding=1).square().sum().backward()
    torch.testing.assert_close(ours, layer.weight.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("side", [2, 3, 4, 8])
def test_gradients_of_small_patches_are_right_in_bfloat16(side):
    gradients = []
    for half in (False, True):
        torch.manual_seed(0)
        encoder = encoders.build("conv", channels=1, image_size=8).eval()  # as it is: batch statistics hide nothing
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            out = encoder(images(1152, 1, side, side))
        out.float().sum().backward()
        gradients.append([p.grad for p in encoder.parameters()])
    for exact, rounded in zip(*gradients, strict=True):
        assert (rounded - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("given", [4, "44", (4,), (4, 4, 4)])
def test_patches_that_are_no_size_and_stride_are_refused(given):
    with pytest.raises(BadInput, match="give \\(size, stride\\)"):
        encoders.build("conv", channels=1, image_size=8, patches=given)
