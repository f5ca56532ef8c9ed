import pytest
import torch
from torchvision.transforms.v2 import functional

from sanslabel.views.blur import blur_matrices, radius
from sanslabel.views.resampling import resampled


@pytest.mark.parametrize("size", [2, 3, 8, 28, 32, 50, 96, 224])
@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 2.0])
def test_blur_agrees_with_torchvision(size, sigma):
    images = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(size))
    blurred = blur_matrices(torch.tensor([sigma]), size, torch.float32)
    theirs = functional.gaussian_blur(images, [2 * radius(size) + 1] * 2, [sigma, sigma])
    assert (resampled(images, blurred, blurred) - theirs).abs().max() < 1e-5


def test_kernels_take_a_tenth_of_the_image_and_at_least_three_pixels():
    assert {size: 2 * radius(size) + 1 for size in (1, 2, 28, 32, 64, 96, 128, 224)} == {
        1: 1, 2: 3, 28: 3, 32: 3, 64: 7, 96: 9, 128: 13, 224: 23,
    }  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_width_is_no_blur(dtype):
    blurred = blur_matrices(torch.tensor([0.0, 1.0, 0.0]), 28, dtype)
    assert torch.equal(blurred[0], torch.eye(28, dtype=dtype))
    assert torch.equal(blurred[2], torch.eye(28, dtype=dtype))
    assert not torch.equal(blurred[1], torch.eye(28, dtype=dtype))


def test_matrices_equal_their_loop_and_are_banded():
    size, sigma = 40, 1.3
    reach = radius(size)
    weights = [torch.tensor(-0.5 * (k / sigma) ** 2, dtype=torch.float64).exp() for k in range(-reach, reach + 1)]
    expected = torch.zeros(size, size, dtype=torch.float64)
    for i in range(size):
        for k in range(-reach, reach + 1):
            j = abs(i + k)  # reflected without repeating the edge
            j = 2 * (size - 1) - j if j >= size else j
            expected[i, j] += weights[k + reach] / sum(weights)
    ours = blur_matrices(torch.tensor([sigma]), size, torch.float32)[0]
    assert torch.allclose(ours, expected.float(), atol=1e-6)
    assert ours.triu(reach + 1).count_nonzero() == 0
