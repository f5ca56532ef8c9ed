"""Tiles: square pieces of an image, one drawn from each cell of a grid, and squares drawn from each tile."""

from __future__ import annotations

import torch
from torch import Tensor

from sanslabel.batch import Batch
from sanslabel.errors import BadInput
from sanslabel.randomness import bits, fold, integers
from sanslabel.stopwatch import timed
from sanslabel.views.view import View

BRANCH, VIEWS = 2, 8
"""branches of a stream that the places of tiles and their views are drawn from"""


def tile_side(side: int, patch: int = 1, grid: int = 3) -> int:
    """Returns the side in pixels of tiles for images of `side` pixels.

    The side is three quarters of a cell, as 64 of 85 pixels in the papers. It is rounded up to a multiple of 8, or of a
    transformer's patch. Images of 28, 32, 64 and 224 pixels have cells of 9, 10, 21 and 74, and tiles of 8, 8, 16 and
    56. Raises BadInput if no tile that an encoder can read fits a cell.
    """
    cell, unit = side // grid, patch * max(1, 8 // patch)
    fits = min(unit * -(-3 * cell // (4 * unit)), cell // patch * patch)
    if fits < 2:  # the first layer of convnets halves the tile
        raise BadInput(
            f"Images of {side} pixels have cells of {cell} in a grid of {grid}x{grid}, and no patch of {patch} fits "
            f"into one: give at least {grid * max(patch, 2)} pixels a side (--image-size)."
        )
    return fits


@timed("views")
def tiles(images: Tensor, key: Tensor, size: int, stream: int, grid: int = 3) -> Tensor:
    """Returns one tile at a random place in each cell of a grid x grid division of the image.

    images: (N, C, H, W); key: (N,) int64; size: side of a tile in pixels, smaller than a cell of H // grid x W // grid
    pixels by the wanted gap -> (N, grid², C, size, size), row by row.
    The place differs from tile to tile. So neither continued edges nor a constant distance show which tiles are
    neighbors (Noroozi and Favaro 2016, section 3.3). Raises BadInput if a tile does not fit its cell.
    """
    n, _, height, width = images.shape
    cells = height // grid, width // grid
    if not 1 <= size <= min(cells):
        raise BadInput(
            f"Tiles of {size} pixels do not fit the cells of {min(cells)} in views of {height}; give at most"
            f" {min(cells)}."
        )
    drawn = bits(key, 2 * grid * grid, fold(stream, BRANCH)).view(n, 2, grid, grid)
    vertical, horizontal = (drawn[:, axis] * (cells[axis] - size + 1) >> 32 for axis in (0, 1))  # (N, grid, grid)
    place = torch.arange(grid, device=images.device)
    top, left = (place * cells[0])[:, None] + vertical, place * cells[1] + horizontal
    inside = torch.arange(size, device=images.device)
    down = (top[..., None] + inside).view(n, grid * grid, 1, size, 1)
    along = (left[..., None] + inside).view(n, grid * grid, 1, 1, size)
    sample = torch.arange(n, device=images.device).view(n, 1, 1, 1, 1)
    channel = torch.arange(images.shape[1], device=images.device).view(1, 1, -1, 1, 1)
    return images[sample, channel, down, along]


@timed("views")
def subcropped(patches: Tensor, key: Tensor, size: int, stream: int) -> Tensor:
    """Returns each patch with a random square of it in the middle, and 0.5 around.

    patches: (N, P, C, s, s), standardized, so that 0.5 is their mean; key: (N,) int64; size: side of the square, at
    most s -> (N, P, C, s, s). The square differs from patch to patch (van den Oord et al. 2018, section 3.2).
    """
    n, count, channels, side, _ = patches.shape
    corner = integers(key, 2 * count, side - size + 1, fold(stream, BRANCH)).view(n, 2, count, 1, 1)
    inside, margin = torch.arange(size, device=patches.device), (side - size) // 2
    down = (corner[:, 0] + inside)[..., None]  # (N, P, 1, size, 1)
    along = (corner[:, 1] + inside)[:, :, :, None]  # (N, P, 1, 1, size)
    sample = torch.arange(n, device=patches.device).view(n, 1, 1, 1, 1)
    place = torch.arange(count, device=patches.device).view(1, count, 1, 1, 1)
    channel = torch.arange(channels, device=patches.device).view(1, 1, channels, 1, 1)
    result = torch.full_like(patches, 0.5)
    result[..., margin : margin + size, margin : margin + size] = patches[sample, place, channel, down, along]
    return result


def view_of_each(tiles: Tensor, view: View, batch: Batch, stream: int) -> Tensor:
    """Returns the tiles with a view drawn for each of them by itself, from the sample's key and the tile's place. No
    color or direction then shows which tiles are of one image.

    tiles: (N, P, C, s, s), in [0, 1] -> the same shape, if the view has no size.
    """
    place = torch.arange(tiles.shape[1], device=tiles.device)
    keys = fold(batch.key[:, None], VIEWS, place).flatten()  # (N P,)
    index = batch.index.repeat_interleave(tiles.shape[1])
    tile_batch = Batch.of_images(tiles.flatten(0, 1), index, keys)
    return view(tile_batch, stream).unflatten(0, tiles.shape[:2])
