"""Blocks: rectangles of patches, as index tensors from the samples' keys, alike in number within a batch."""

from __future__ import annotations

from math import log, sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from sanslabel.errors import BadInput
from sanslabel.randomness import fold, integers, uniform
from sanslabel.stopwatch import timed

BRANCH = 3
"""of a stream, where blocks come from"""
TRIES = 16
"""rectangles that are drawn for a sample; what they leave open is filled at random"""

Range = tuple[float, float]


@timed("views")
def blockwise(key: Tensor, grid: tuple[int, int], count: int, smallest: int, stream: int) -> Tensor:
    """The patches to mask of every sample: rectangles one over the other, of `smallest` patches up to what is missing
    and of height/width from 0.3 to 1/0.3, until there are `count`. A rectangle that would mask too many is not taken.

    key: (N,) int64; grid: rows and columns -> (N, count) int64, ascending. BadInput where no patch is left.
    Bao et al. 2022 (BEiT), algorithm 1, whose number of masked patches varies; here the last ones are drawn singly.
    """
    rows, columns = grid
    if not 0 < count < rows * columns:
        raise BadInput(f"Masking {count} of {rows * columns} patches: give a ratio that masks one and leaves one.")
    draws = uniform(key, 4 * TRIES, fold(stream, BRANCH, 0)).unflatten(1, (TRIES, 4))
    masked = torch.zeros(len(key), rows, columns, dtype=torch.bool, device=key.device)
    for size, shape, down, along in draws.permute(1, 2, 0):
        missing = count - masked.sum(dim=(1, 2))  # (N,)
        area = smallest + size * (missing.clamp(min=1) - smallest)
        root = torch.exp(log(0.3) * (shape - 0.5))  # of height/width, log-uniform
        height = (area.sqrt() * root).round().long().clamp(1, rows)
        width = (area.sqrt() / root).round().long().clamp(1, columns)
        top, left = (down * (rows - height + 1)).long(), (along * (columns - width + 1)).long()
        new = _rectangle(top, left, height, width, grid) & ~masked
        masked |= new & (new.sum(dim=(1, 2)) <= missing)[:, None, None]
    order = uniform(key, rows * columns, fold(stream, BRANCH, 1)) + masked.flatten(1)
    return order.argsort(dim=1, descending=True, stable=True)[:, :count].sort(dim=1).values


class Blocks(NamedTuple):
    """What a context encoder sees, and what is to be predicted from it."""

    context: Tensor
    """(N, K) int64, ascending, none of them in a target"""
    targets: Tensor
    """(N, T, M) int64, of each block row by row"""


@timed("views")
def multiblock(
    key: Tensor,
    step: int,
    grid: tuple[int, int],
    targets: int,
    target_scale: Range,
    target_ratio: Range,
    context_scale: Range,
    stream: int,
) -> Blocks:
    """Some small rectangles as targets, and as the context a large square without them. Sizes are drawn once for the
    batch, places for each sample.

    key: (N,) int64; step: the key of the batch, `clock.key`; grid: rows and columns; targets: how many; scales: ranges
    of a rectangle's part of the patches; target_ratio: range of height/width. BadInput where the targets may cover all.

    Targets may overlap. A context has as many patches as are left where no two do: the largest number that holds for
    every sample of any batch, so that no process need know of another's. Where the square has more, random ones of it
    are taken, where it has fewer, random ones around it. Assran et al. 2023, section 3; their code cuts contexts to the
    smallest in the batch.
    """
    rows, columns = grid
    patches, largest = rows * columns, max(1, int(target_scale[1] * rows * columns))
    if targets * largest >= patches:
        raise BadInput(
            f"{targets} targets of up to {largest} of {patches} patches leave no context; give fewer or smaller ones."
        )
    sizes = uniform(torch.tensor([step]), 3, fold(stream, BRANCH, 2))[0].tolist()
    scale, ratio, whole = (
        low + (high - low) * u
        for (low, high), u in zip((target_scale, target_ratio, context_scale), sizes, strict=True)
    )
    height, width = _sides(scale * patches, ratio, grid, largest)
    top = integers(key, targets, rows - height + 1, fold(stream, BRANCH, 3))  # (N, T)
    left = integers(key, targets, columns - width + 1, fold(stream, BRANCH, 4))
    down = torch.arange(height, device=key.device)[:, None]
    along = torch.arange(width, device=key.device)
    inside = (top[..., None, None] + down) * columns + left[..., None, None] + along  # (N, T, height, width)
    places = inside.flatten(2)

    height, width = _sides(whole * patches, 1.0, grid, patches)
    top, left = (
        integers(key, 1, side - length + 1, fold(stream, BRANCH, branch))[:, 0]
        for side, length, branch in ((rows, height, 5), (columns, width, 6))
    )
    sides = torch.full_like(top, height), torch.full_like(top, width)
    free = torch.ones(len(key), patches, dtype=torch.bool, device=key.device).scatter_(1, places.flatten(1), False)
    preferred = free & _rectangle(top, left, *sides, grid).flatten(1)
    order = uniform(key, patches, fold(stream, BRANCH, 7)) + free + preferred
    context = order.argsort(dim=1, descending=True, stable=True)[:, : patches - targets * places.shape[2]]
    return Blocks(context.sort(dim=1).values, places)


def _rectangle(top: Tensor, left: Tensor, height: Tensor, width: Tensor, grid: tuple[int, int]) -> Tensor:
    """(N,) each -> (N, rows, columns) bool, whether a patch is inside."""
    row, column = (torch.arange(side, device=top.device) for side in grid)
    tall = (row >= top[:, None]) & (row < (top + height)[:, None])
    wide = (column >= left[:, None]) & (column < (left + width)[:, None])
    return tall[:, :, None] & wide[:, None, :]


def _sides(area: float, ratio: float, grid: tuple[int, int], largest: int) -> tuple[int, int]:
    """Height and width, whole numbers that fit the grid, of a rectangle of this height/width and about this area, and
    not above the largest."""
    height = min(grid[0], max(1, round(sqrt(area * ratio))))
    width = min(grid[1], max(1, round(sqrt(area / ratio))))
    while height * width > largest:
        height, width = (height - 1, width) if height >= width else (height, width - 1)
    return height, width
