import pytest
import torch

from sanslabel.losses import patch_reconstruction


def loop(prediction, patches, normalized):
    """Pixel by pixel."""
    samples = []
    for sample, truth in zip(prediction.tolist(), patches.tolist(), strict=True):
        total = 0.0
        for told, pixels in zip(sample, truth, strict=True):
            count = len(pixels)
            center = sum(pixels) / count if normalized else 0.0
            variance = sum((x - center) ** 2 for x in pixels) / (count - 1) + 1e-6 if normalized else 1.0
            total += sum((p - (x - center) / variance**0.5) ** 2 for p, x in zip(told, pixels, strict=True)) / count
        samples.append(total / len(sample))
    return torch.tensor(samples, dtype=torch.float64)


@pytest.mark.parametrize(("pixels", "expected"), [(48, 0.979167), (768, 0.998698)])
def test_predictions_of_0_cost_all_but_one_pixel(pixels, expected):
    patches = 100 * torch.randn(3, 5, pixels, dtype=torch.float64)
    loss = patch_reconstruction(torch.zeros_like(patches), patches)
    assert loss.shape == (3,)
    assert loss.tolist() == pytest.approx([(pixels - 1) / pixels] * 3, abs=1e-9)
    assert loss[0].item() == pytest.approx(expected, abs=1e-6)


def test_brightness_and_contrast_of_a_patch_do_not_matter():
    patches, prediction = 100 * torch.randn(3, 5, 12, dtype=torch.float64), torch.randn(3, 5, 12, dtype=torch.float64)
    changed = patches * torch.tensor([2.0, 0.5, 3.0, 1.0, 7.0])[:, None] + 40
    torch.testing.assert_close(patch_reconstruction(prediction, changed), patch_reconstruction(prediction, patches))
    assert not torch.allclose(
        patch_reconstruction(prediction, changed, False), patch_reconstruction(prediction, patches, False)
    )


def test_the_pixels_themselves_cost_nothing_where_they_are_the_target():
    patches = torch.rand(2, 3, 4)
    assert patch_reconstruction(patches, patches, normalized=False).tolist() == [0, 0]


def test_flat_patches_cost_nothing_to_predictions_of_0():
    assert patch_reconstruction(torch.zeros(1, 2, 4), torch.full((1, 2, 4), 0.5)).item() == 0


@pytest.mark.parametrize("normalized", [True, False])
def test_it_is_the_loop(normalized):
    prediction, patches = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    expected = loop(prediction, patches, normalized)
    torch.testing.assert_close(patch_reconstruction(prediction, patches, normalized), expected)


def test_gradient():
    prediction, patches = (torch.randn(2, 3, 4, dtype=torch.float64).requires_grad_() for _ in "pt")
    assert torch.autograd.gradcheck(patch_reconstruction, (prediction, patches))


def test_half_precision_inputs_are_computed_in_float32_also_under_autocast():
    prediction, patches = torch.randn(2, 8, 4, 16).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = patch_reconstruction(prediction, patches)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, patch_reconstruction(prediction.double(), patches.double()).float())
