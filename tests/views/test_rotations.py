import pytest
import torch

from sanslabel.views import View, rotated, rotations


def test_a_quarter_turn_pixel_by_pixel():
    images = torch.rand(2, 3, 5, 5)
    one = rotated(images, torch.tensor([1, 1]))
    for row in range(5):
        for column in range(5):  # counter-clockwise: the right edge becomes the top
            assert torch.equal(one[:, :, row, column], images[:, :, column, 4 - row])


@pytest.mark.parametrize("first", range(4))
@pytest.mark.parametrize("second", range(4))
def test_turns_add_up(first, second):
    images = torch.rand(3, 2, 6, 6)
    twice = rotated(rotated(images, torch.full((3,), first)), torch.full((3,), second))
    assert torch.equal(twice, rotated(images, torch.full((3,), (first + second) % 4)))


def test_each_image_has_a_turn_of_its_own():
    images, quarters = torch.rand(5, 1, 4, 4), torch.tensor([3, 0, 2, 1, 3])
    ours = rotated(images, quarters)
    for i, k in enumerate(quarters.tolist()):
        assert torch.equal(ours[i], torch.rot90(images[i], k, dims=(1, 2)))
        assert torch.equal(ours[i], rotations(images)[i, k])


def test_one_image_may_be_rotated_several_times():
    images, quarters = torch.rand(5, 1, 4, 4), torch.tensor([[3, 0], [2, 1], [0, 0], [1, 2], [3, 1]])
    ours = rotated(images, quarters)
    assert ours.shape == (5, 2, 1, 4, 4)
    for column in range(2):
        assert torch.equal(ours[:, column], rotated(images, quarters[:, column]))


def test_a_quarter_that_is_mirrored_is_the_mirror_image_rotated_by_three():
    images = torch.rand(3, 1, 4, 4)
    assert torch.equal(rotations(images)[:, 1].flip(-1), rotations(images.flip(-1))[:, 3])


def test_every_turn_of_every_image():
    images = torch.rand(3, 2, 4, 4)
    assert rotations(images).shape == (3, 4, 2, 4, 4)
    assert torch.equal(rotations(images)[:, 0], images)
    assert torch.equal(rotations(images)[:, 2], images.flip(2, 3))


@pytest.mark.parametrize(("width", "crop"), [(12, (0.3, 1.0)), (16, (0.3, 1.0)), (16, None)])
def test_resampling_tells_no_angle(batch_of, width, crop):
    """Of noise, which has no direction, views are as smooth along rows as along columns, also of wide images."""
    noise = torch.rand(2000, 1, 12, width, generator=torch.Generator().manual_seed(0))
    view = View(crop=crop, flip=0.5, size=9)(batch_of(noise), 0)
    across, down = view.diff(dim=3).square().mean(dim=(1, 2, 3)), view.diff(dim=2).square().mean(dim=(1, 2, 3))
    assert (across - down).mean().abs() < 4 * (across - down).std() / 2000**0.5
