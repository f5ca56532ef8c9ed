"""Each operation against torchvision's where it does not clamp, hue against its own formula, and that they commute."""

import itertools
import math

import pytest
import torch
from torchvision.transforms.v2 import functional

from sanslabel.views.color import LUMA, Colors, means, recolored

GRAY = torch.tensor(LUMA, dtype=torch.float64)


def colors(n, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0, grayscale=False, rgb=True):
    factor = [torch.full((n,), float(x)) for x in (brightness, contrast, saturation, hue)]
    return Colors(*factor, torch.full((n,), grayscale)) if rgb else Colors(*factor[:2], None, None, None)


def pictures(n=4, channels=3, low=0.0, high=1.0, dtype=torch.float32):
    noise = torch.rand(n, channels, 9, 11, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return (low + (high - low) * noise).to(dtype)


# One function for each line of the module's table, on a single (C, H, W) image.
def brighter(x, b):
    return b * x


def contrasted(x, c):
    return c * x + (1 - c) * (x * GRAY[:, None, None]).sum(0).mean()


def saturated(x, s):
    return s * x + (1 - s) * (x * GRAY[:, None, None]).sum(0)


def turned(x, h):
    """Luma stays, and (α, β), the chroma in HSV's hexagon, turns: three equations for three channels."""
    r, g, b = x
    alpha, beta = r - (g + b) / 2, math.sqrt(3) / 2 * (g - b)
    cos, sin = math.cos(2 * math.pi * h), math.sin(2 * math.pi * h)
    wanted = torch.stack([(x * GRAY[:, None, None]).sum(0), cos * alpha - sin * beta, sin * alpha + cos * beta])
    equations = torch.tensor([LUMA, (1, -0.5, -0.5), (0, math.sqrt(3) / 2, -math.sqrt(3) / 2)], dtype=torch.float64)
    return torch.linalg.solve(equations, wanted.flatten(1)).view_as(x)


def gray(x, on):
    return (x * GRAY[:, None, None]).sum(0).expand_as(x) if on else x


CHAIN = {"brightness": brighter, "contrast": contrasted, "saturation": saturated, "hue": turned, "grayscale": gray}


@pytest.mark.parametrize("factor", [0.2, 0.7, 1.0, 1.5, 1.8])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_jitter_agrees_with_torchvision_where_that_does_not_clamp(name, factor):
    images = pictures(low=0.35, high=0.55)
    theirs = torch.stack([getattr(functional, f"adjust_{name}")(x, factor) for x in images])
    assert theirs.min() > 0
    assert theirs.max() < 1
    assert (recolored(images, colors(4, **{name: factor})) - theirs).abs().max() < 1e-6


@pytest.mark.parametrize("factor", [0.2, 1.8])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_jitter_agrees_with_torchvision_after_clamping_one_operation(name, factor):
    images = pictures()
    theirs = torch.stack([getattr(functional, f"adjust_{name}")(x, factor) for x in images])
    ours = recolored(images, colors(4, **{name: factor}))
    assert factor < 1 or ours.max() > 1  # what is clamped here exists
    assert (ours.clamp(0, 1) - theirs).abs().max() < 1e-6


def test_grayscale_agrees_with_torchvision():
    images = pictures()
    theirs = functional.rgb_to_grayscale(images, num_output_channels=3)
    assert (recolored(images, colors(4, grayscale=True)) - theirs).abs().max() < 1e-6


@pytest.mark.parametrize("hue", [-0.5, -0.2, 0.1, 1 / 3, 0.5])
def test_hue_turns_chroma_and_keeps_luma(hue):
    images = pictures(dtype=torch.float64)
    ours = recolored(images, colors(4, hue=hue))
    assert (ours - torch.stack([turned(x, hue) for x in images])).abs().max() < 1e-6
    luma = torch.tensordot(GRAY, images, dims=([0], [1]))
    assert (torch.tensordot(GRAY, ours, dims=([0], [1])) - luma).abs().max() < 1e-6

    def chroma(x):
        r, g, b = x.unbind(1)
        return torch.complex(2 * r - g - b, math.sqrt(3) * (g - b))

    rotation = chroma(ours) / chroma(images)
    assert (rotation - complex(math.cos(2 * math.pi * hue), math.sin(2 * math.pi * hue))).abs().max() < 1e-5


def test_hue_goes_round():
    images = pictures(dtype=torch.float64)
    assert torch.allclose(recolored(images, colors(4, hue=1.0)), images, atol=1e-6)
    thirds = images
    for _ in range(3):
        thirds = recolored(thirds, colors(4, hue=1 / 3))
    assert torch.allclose(thirds, images, atol=1e-6)
    red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    r, g, b = recolored(red, colors(1, hue=1 / 3)).flatten()
    assert g > max(r, b)
    assert abs(r - b) < 1e-6
    white = torch.ones(1, 3, 2, 2)
    assert torch.allclose(recolored(white, colors(1, hue=0.2)), white, atol=1e-6)


@pytest.mark.parametrize("on", [False, True])
def test_operations_commute_and_are_one_map(on):
    changes = dict(brightness=1.3, contrast=0.4, saturation=1.7, hue=0.15, grayscale=on)
    image = pictures(n=1, dtype=torch.float64)
    ours = recolored(image, colors(1, **changes))[0]
    for order in itertools.permutations(CHAIN):
        x = image[0]
        for name in order:
            x = CHAIN[name](x, changes[name])
        assert (x - ours).abs().max() < 1e-6, order


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_channels_have_brightness_and_contrast_about_the_mean(channels):
    images = pictures(channels=channels)
    ours = recolored(images, colors(4, brightness=0.8, contrast=1.6, rgb=False))
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    assert torch.allclose(ours, 0.8 * (1.6 * images - 0.6 * mean), atol=1e-6)
    if channels == 1:
        x = pictures(channels=1, low=0.4, high=0.6)
        theirs = torch.stack([functional.adjust_contrast(functional.adjust_brightness(i, 0.8), 1.6) for i in x])
        assert torch.allclose(recolored(x, colors(4, brightness=0.8, contrast=1.6, rgb=False)), theirs, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_doing_nothing_changes_nothing_in_any_dtype(dtype):
    for channels in (1, 3):
        images = pictures(channels=channels, dtype=dtype)
        ours = recolored(images, colors(4, rgb=channels == 3))
        assert ours.dtype == dtype
        assert torch.equal(ours, images)


@pytest.mark.parametrize("side", [1, 28, 300])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 4e-3), (torch.float16, 1e-3)])
def test_means_are_means(dtype, tolerance, side):
    images = torch.rand(3, 2, side, side, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert torch.allclose(means(images).double(), images.double().mean(dim=(2, 3)), rtol=tolerance, atol=0)
    assert means(torch.ones(1, 1, side, side, dtype=dtype)).item() == pytest.approx(1, rel=tolerance)
    assert means(images).dtype == torch.float32


def test_every_sample_has_its_own_numbers():
    images = pictures()
    samples = Colors(*(torch.tensor(x) for x in ([0.5, 1, 1, 1.2], [1, 0.3, 1, 1.1], [1, 1, 1.8, 0.2], [0, 0, 0, 0.1])),
                 torch.tensor([False, False, False, True]))  # fmt: skip
    batched = recolored(images, samples)
    for i in range(4):
        alone = recolored(images[i : i + 1], Colors(*(x[i : i + 1] for x in samples)))
        assert torch.allclose(batched[i : i + 1], alone, atol=1e-6)
