from dataclasses import replace

import pytest
import torch

from sanslabel.batch import Batch
from sanslabel.errors import BadInput
from sanslabel.randomness import fold
from sanslabel.views import SIMCLR, subcropped, tile_side, tiles, view_of_each
from sanslabel.views.tiles import VIEWS

KEYS = torch.arange(4000) * 7919 % 2**32


def index_image(side: int, count: int = 1) -> torch.Tensor:
    """Every pixel has a value of its own."""
    return torch.arange(side * side).view(1, 1, side, side).expand(count, -1, -1, -1)


def test_tiles_are_disjoint_squares_of_neighboring_pixels_in_their_cells():
    cut = tiles(index_image(28, 50), KEYS[:50], 8, 0)
    assert cut.shape == (50, 9, 1, 8, 8)
    for image in cut:
        assert len(image.unique()) == 9 * 64
        for i, tile in enumerate(image[:, 0]):
            top, left = divmod(int(tile[0, 0]), 28)
            expected = (torch.arange(top, top + 8)[:, None] * 28) + torch.arange(left, left + 8)
            assert torch.equal(tile, expected)
            row, column = divmod(i, 3)
            assert 9 * row <= top <= 9 * row + 1
            assert 9 * column <= left <= 9 * column + 1


def test_channels_of_a_tile_come_from_the_same_place():
    image = torch.cat([index_image(16, 5), index_image(16, 5) + 1000], dim=1)
    cut = tiles(image, KEYS[:5], 4, 0)
    assert torch.equal(cut[:, :, 0] + 1000, cut[:, :, 1])


def test_every_place_in_a_cell_is_as_likely_and_no_tile_moves_with_another():
    corner = tiles(index_image(30, 4000), KEYS, 8, 0)[:, :, 0, 0, 0]  # cells of 10: 0, 1 or 2 to the right and down
    shift = torch.stack([corner // 30 % 10, corner % 30 % 10], dim=2)  # (N, 9, 2)
    share = torch.stack([(shift == k).float().mean(dim=0) for k in range(3)])
    assert (share - 1 / 3).abs().max() < 4 * (2 / 9 / 4000) ** 0.5
    related = torch.corrcoef(shift.flatten(1).T.float()) - torch.eye(18)
    assert related.abs().max() < 4.5 / 4000**0.5


def test_places_belong_to_key_and_stream():
    images = torch.rand(4, 1, 30, 30)
    full = tiles(images, KEYS[:4], 8, 1)
    assert torch.equal(full[2:3], tiles(images[2:3], KEYS[2:3], 8, 1))
    assert not torch.equal(full, tiles(images, KEYS[:4], 8, 2))


def test_a_tile_as_large_as_its_cell_has_one_place():
    assert torch.equal(tiles(index_image(8), KEYS[:1], 4, 0, grid=2)[0, 1, 0], index_image(8)[0, 0, :4, 4:])


def test_a_view_of_each_tile_is_drawn_by_itself():
    view, index = replace(SIMCLR, crop=None, grayscale=0.5, photometric=0.5), torch.arange(6)
    batch = Batch.of_images(torch.rand(6, 3, 30, 30), index, KEYS[:6])
    cut = tiles(batch.images().pixels, batch.key, 8, 1)
    changed = view_of_each(cut, view, batch, 1)
    for i, key in enumerate(batch.key.tolist()):
        for j in range(9):
            alone = Batch.of_images(cut[i, j, None], index[:1], torch.tensor([fold(key, VIEWS, j)]))
            torch.testing.assert_close(changed[i, j, None], view(alone, 1))
    assert torch.equal(
        view_of_each(cut, replace(view, flip=0, jitter=0, grayscale=0, blur=0, photometric=0), batch, 1), cut
    )


@pytest.mark.parametrize("size", [0, 10])
def test_a_tile_that_does_not_fit_is_refused(size):
    with pytest.raises(BadInput, match=f"Tiles of {size} pixels do not fit the cells of 9 .* at most 9"):
        tiles(index_image(28), KEYS[:1], size, 0)


@pytest.mark.parametrize(
    ("side", "patch", "expected"),
    [(8, 1, 2), (28, 1, 8), (32, 1, 8), (64, 1, 16), (224, 1, 56), (255, 1, 64), (8, 2, 2), (28, 4, 8), (224, 16, 64)],
)
def test_a_tile_is_three_quarters_of_its_cell_in_whole_patches(side, patch, expected):
    assert tile_side(side, patch) == expected


@pytest.mark.parametrize(("side", "patch", "least"), [(5, 1, 6), (28, 14, 42)])
def test_an_image_too_small_for_tiles_is_refused_with_what_fits(side, patch, least):
    with pytest.raises(BadInput, match=f"at least {least} pixels"):
        tile_side(side, patch)
    assert tile_side(least, patch) <= least // 3


@pytest.mark.parametrize("size", [5, 6, 7, 8])
def test_subcrops_are_random_squares_in_the_middle_of_gray(size):
    patches = torch.rand(40, 3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    shown = subcropped(patches, KEYS[:40], size, 0)
    margin, corners = (8 - size) // 2, set()
    for n in range(40):
        for p in range(3):
            inner = shown[n, p, :, margin : margin + size, margin : margin + size]
            (corner,) = [
                (top, left)
                for top in range(9 - size)
                for left in range(9 - size)
                if torch.equal(patches[n, p, :, top : top + size, left : left + size], inner)
            ]
            corners.add(corner)
    assert len(corners) == (9 - size) ** 2, "every place is drawn"
    assert (shown == 0.5).sum() == patches[:, :, :, 0, 0].numel() * (64 - size**2)
    assert torch.equal(shown[3:5], subcropped(patches[3:5], KEYS[3:5], size, 0))
