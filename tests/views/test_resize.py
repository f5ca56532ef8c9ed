import pytest
import torch
from torchvision.transforms.v2 import functional

from sanslabel.errors import BadInput
from sanslabel.views import resized

pytestmark = pytest.mark.usefixtures("form")


def pictures(n, channels, height, width):
    shape = (n, channels, height, width)
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize(("height", "width", "size"), [(28, 28, 14), (30, 47, 32), (64, 20, 17), (20, 20, 64)])
def test_the_central_square_resized_as_torchvision_does_it(channels, height, width, size):
    images = pictures(3, channels, height, width)
    square = functional.center_crop(images / 255, [min(height, width)] * 2)
    theirs = functional.resize(square, [size, size], antialias=True)
    ours = resized(images, size)
    assert ours.dtype == torch.float32
    assert (ours - theirs).abs().max() < 1e-5
    for floating in (torch.float64, torch.float32):
        assert (resized((images / 255).to(floating), size) - theirs).abs().max() < 1e-5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(resized(images, size), ours)


@pytest.mark.parametrize("sizes", [None, torch.tensor([[28, 28], [28, 28]])])
def test_images_of_that_size_are_the_pixels(sizes):
    images = pictures(2, 3, 28, 28)
    assert torch.equal(resized(images, 28, sizes), images.float() / 255)
    assert (images == pictures(2, 3, 28, 28)).all()


def test_true_sizes_on_a_padded_canvas():
    sizes = torch.tensor([[40, 31], [12, 40], [25, 25]])
    images = pictures(3, 3, 40, 40)
    junk = images.clone()
    for i, (h, w) in enumerate(sizes.tolist()):
        junk[i, :, h:], junk[i, :, :, w:] = 255, 255
    ours = resized(images, 20, sizes)
    assert torch.equal(ours, resized(junk, 20, sizes))
    for i, (h, w) in enumerate(sizes.tolist()):
        assert torch.allclose(ours[i : i + 1], resized(images[i : i + 1, :, :h, :w], 20), atol=1e-6)


def test_images_of_other_dtypes_are_refused():
    with pytest.raises(BadInput, match=r"torch.int64; give uint8"):
        resized(torch.zeros(1, 1, 8, 8, dtype=torch.int64), 8)
