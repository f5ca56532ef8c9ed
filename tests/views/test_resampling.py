"""The matrices give torchvision's antialiased resized crop, in either form of their product."""

import pytest
import torch
from torchvision.transforms.v2 import functional

import sanslabel.views.resampling as resampling_file
from sanslabel.views.resampling import cropped, form, resampled, resampling_matrices

# (canvas height and width, box as top, left, height, width, size of the result)
CASES = [
    ((28, 28), (0, 0, 28, 28), 28),
    ((28, 28), (3, 5, 9, 11), 28),  # enlarged
    ((32, 32), (0, 7, 32, 25), 32),  # one axis kept, at three edges
    ((50, 40), (13, 0, 37, 40), 16),  # reduced
    ((64, 48), (10, 4, 7, 41), 20),  # enlarged in height, reduced in width
    ((40, 90), (39, 89, 1, 1), 8),  # one pixel, in the corner
    ((300, 260), (5, 6, 290, 251), 3),  # reduced by a hundred
    ((33, 31), (1, 1, 31, 29), 224),
    ((256, 256), (17, 3, 231, 250), 224),
]


def matrices(canvas, box, size, dtype, mirrored=None):
    top, left, height, width = torch.tensor([box]).unbind(1)
    exact = torch.promote_types(dtype, torch.float32)
    vertical = resampling_matrices(top, height, canvas[0], size, exact)
    horizontal = resampling_matrices(left, width, canvas[1], size, exact, mirrored)
    return vertical.to(dtype), horizontal.to(dtype)


def loop(start, length, pixels, size):
    """The weights pixel by pixel, after the description of an antialiased linear filter."""
    scale = length / size
    support = max(scale, 1.0)
    weights = torch.zeros(size, pixels, dtype=torch.float64)
    for i in range(size):
        center = start + scale * (i + 0.5)
        for j in range(start, start + length):
            weights[i, j] = max(0.0, 1 - abs(j + 0.5 - center) / support)
        weights[i] /= weights[i].sum()
    return weights


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize(("canvas", "box", "size"), CASES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5), (torch.bfloat16, 4 / 255)]
)
def test_crop_and_resize_agree_with_torchvision(canvas, box, size, dtype, tolerance):
    images = torch.rand(1, 3, *canvas, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    ours = cropped(images, torch.tensor([box]), size, dtype)
    reference = images if dtype == torch.float64 else images.float()
    theirs = functional.resized_crop(reference, *box, [size, size], antialias=True)
    assert ours.dtype == dtype
    assert (ours - theirs).abs().max() <= tolerance


@pytest.mark.parametrize(("canvas", "box", "size"), CASES[:7])
def test_matrices_equal_their_loops(canvas, box, size):
    vertical, horizontal = matrices(canvas, box, size, torch.float64)
    assert torch.allclose(vertical[0], loop(box[0], box[2], canvas[0], size), atol=1e-12)
    assert torch.allclose(horizontal[0], loop(box[1], box[3], canvas[1], size), atol=1e-12)


def test_a_mirrored_matrix_gives_the_mirrored_crop():
    images = torch.rand(2, 3, 20, 30)
    mirrored = torch.tensor([True, False])
    (top, left, height, width) = torch.tensor([[1, 2, 13, 21], [1, 2, 13, 21]]).unbind(1)
    vertical = resampling_matrices(top, height, 20, 16, torch.float32)
    ours = resampled(images, vertical, resampling_matrices(left, width, 30, 16, torch.float32, mirrored))
    plain = resampled(images, vertical, resampling_matrices(left, width, 30, 16, torch.float32))
    assert torch.allclose(ours[0], functional.horizontal_flip(plain[0]), atol=1e-6)
    assert torch.equal(ours[1], plain[1])


@pytest.mark.usefixtures("form")
def test_an_image_of_the_right_size_passes_unchanged():
    images = torch.rand(4, 2, 28, 28)
    assert torch.equal(cropped(images, torch.tensor([[0, 0, 28, 28]] * 4), 28, torch.float32), images)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_both_forms_agree_on_mirrored_and_blurred_boxes(monkeypatch, dtype):
    images = torch.randint(0, 256, (5, 3, 100, 120), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    boxes = torch.tensor([[0, 0, 100, 120], [1, 2, 9, 7], [99, 119, 1, 1], [70, 0, 30, 33], [5, 85, 64, 35]])
    mirrored, sigma = torch.tensor([True, False, True, False, True]), torch.tensor([0.0, 1.5, 0.3, 0.0, 2.0])
    outputs, calls, boxed = [], [], resampling_file._boxed
    monkeypatch.setattr(resampling_file, "_boxed", lambda *given: calls.append(given) or boxed(*given))
    for side in (0, 10**6):
        monkeypatch.setattr(resampling_file, "BOXED_FROM", {("cpu", dtype): side})
        outputs.append(cropped(images, boxes, 24, dtype, mirrored, sigma))
    assert (outputs[0] - outputs[1]).abs().max() <= {torch.bfloat16: 2 / 255}.get(dtype, 1e-6)
    assert len(calls) == 1


def test_the_form_is_a_fixed_function_of_device_dtype_and_side():
    cpu = torch.device("cpu")
    assert form(cpu, torch.bfloat16, 32) == form(cpu, torch.float32, 32) == "dense"
    assert form(cpu, torch.bfloat16, 256) == form(cpu, torch.float32, 256) == "boxed"
    assert form(torch.device("cuda"), torch.bfloat16, 256) == "dense"  # each box would be waited for
