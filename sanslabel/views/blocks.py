"""Blocks: rectangles of patches, as index tensors drawn from the samples' keys. The blocks of all samples of a batch
have equally many patches."""

from __future__ import annotations

from math import log, sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from sanslabel.errors import BadInput
from sanslabel.randomness import fold, integers, uniform
from sanslabel.stopwatch import timed

BRANCH = 3
"""branch of a stream that blocks are drawn from"""
TRIES = 16
"""rectangles that are drawn for a sample; if they have too few patches, the others are chosen at random"""

Range = tuple[float, float]


@timed("views")
def blockwise(key: Tensor, grid: tuple[int, int], count: int, smallest: int, stream: int) -> Tensor:
    """Returns `count` patches of every sample to mask, by adding rectangles until there are that many.

    key: (N,) int64; grid: (h, w), the patches down and along; smallest: patches of the smallest rectangle
    -> (N, count) int64, ascending.
    A rectangle has from `smallest` patches up to the number still missing, and height/width from 0.3 to 1/0.3. A
    rectangle that would mask too many is dropped. This is algorithm 1 of Bao et al. 2022 (BEiT). Their number of masked
    patches varies; here the last ones are drawn one by one. Raises BadInput if no patch would be masked, or all of
    them.
    """
    tall, wide = grid
    if not 0 < count < tall * wide:
        raise BadInput(f"Masking {count} of {tall * wide} patches: give a ratio that masks one and leaves one.")
    draws = uniform(key, 4 * TRIES, fold(stream, BRANCH, 0)).unflatten(1, (TRIES, 4))
    masked = torch.zeros(len(key), tall, wide, dtype=torch.bool, device=key.device)
    for size, shape, down, along in draws.permute(1, 2, 0):
        missing = count - masked.sum(dim=(1, 2))  # (N,)
        area = smallest + size * (missing.clamp(min=1) - smallest)
        root = torch.exp(log(0.3) * (shape - 0.5))  # of height/width, log-uniform
        height = (area.sqrt() * root).round().long().clamp(1, tall)
        width = (area.sqrt() / root).round().long().clamp(1, wide)
        top, left = (down * (tall - height + 1)).long(), (along * (wide - width + 1)).long()
        new = _rectangle(top, left, height, width, grid) & ~masked
        masked |= new & (new.sum(dim=(1, 2)) <= missing)[:, None, None]
    order = uniform(key, tall * wide, fold(stream, BRANCH, 1)) + masked.flatten(1)
    return order.argsort(dim=1, descending=True, stable=True)[:, :count].sort(dim=1).values


class Blocks(NamedTuple):
    """Patches that a context encoder reads, and patches that are predicted from them."""

    context: Tensor
    """(N, K) int64, ascending, none of them in a target"""
    targets: Tensor
    """(N, T, M) int64, the M patches of each of T blocks, row by row"""


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
    """Returns small rectangles as targets, and as the context a large square without their patches. Sizes are drawn
    once for the batch, places for each sample.

    key: (N,) int64; step: the key of the batch, `clock.key`; grid: (h, w), the patches down and along; targets: their
    number; target_scale, context_scale: ranges of a rectangle's share of the patches; target_ratio: range of a target's
    height/width.

    Targets may overlap. A context has as many patches as targets without overlap would leave. This is the largest
    number that is possible for every sample of any batch, so that processes need not agree on it. If the square has
    more patches, a random selection of them is taken; if it has fewer, random patches around it are added. See Assran
    et al. 2023, section 3.

    Their code cuts contexts to the smallest in the batch, which keeps the upper patches. It draws scale and shape of a
    target by one number, and its rectangles never reach the last row or column. Here contexts are cut at random, the
    two are drawn apart, and all places are possible. Raises BadInput if the targets can cover all patches.
    """
    tall, wide = grid
    patches, largest = tall * wide, max(1, int(target_scale[1] * tall * wide))
    if targets * largest >= patches:
        raise BadInput(
            f"{targets} targets of up to {largest} of {patches} patches leave no context; give fewer or smaller ones."
        )
    sizes = uniform(torch.tensor([step]), 3, fold(stream, BRANCH, 2))[0].tolist()
    target_share, ratio, context_share = (
        low + (high - low) * u
        for (low, high), u in zip((target_scale, target_ratio, context_scale), sizes, strict=True)
    )
    height, width = _height_and_width(target_share * patches, ratio, grid, largest)
    top = integers(key, targets, tall - height + 1, fold(stream, BRANCH, 3))  # (N, T)
    left = integers(key, targets, wide - width + 1, fold(stream, BRANCH, 4))
    down = torch.arange(height, device=key.device)[:, None]
    along = torch.arange(width, device=key.device)
    inside = (top[..., None, None] + down) * wide + left[..., None, None] + along  # (N, T, height, width)
    places = inside.flatten(2)

    height, width = _height_and_width(context_share * patches, 1.0, grid, patches)
    top, left = (
        integers(key, 1, side - length + 1, fold(stream, BRANCH, branch))[:, 0]
        for side, length, branch in ((tall, height, 5), (wide, width, 6))
    )
    square = _rectangle(top, left, torch.full_like(top, height), torch.full_like(top, width), grid)
    free = torch.ones(len(key), patches, dtype=torch.bool, device=key.device).scatter_(1, places.flatten(1), False)
    preferred = free & square.flatten(1)
    order = uniform(key, patches, fold(stream, BRANCH, 7)) + free + preferred
    context = order.argsort(dim=1, descending=True, stable=True)[:, : patches - targets * places.shape[2]]
    return Blocks(context.sort(dim=1).values, places)


def _rectangle(top: Tensor, left: Tensor, height: Tensor, width: Tensor, grid: tuple[int, int]) -> Tensor:
    """Returns True for the patches inside, False for the others: (N,) each, and a grid (h, w) -> (N, h, w) bool."""
    row, column = (torch.arange(side, device=top.device) for side in grid)
    down = (row >= top[:, None]) & (row < (top + height)[:, None])
    along = (column >= left[:, None]) & (column < (left + width)[:, None])
    return down[:, :, None] & along[:, None, :]


def _height_and_width(area: float, ratio: float, grid: tuple[int, int], largest: int) -> tuple[int, int]:
    """Returns the height and width in patches of a rectangle that fits the grid. It has about this area and this
    height/width, and at most `largest` patches."""
    height = min(grid[0], max(1, round(sqrt(area * ratio))))
    width = min(grid[1], max(1, round(sqrt(area / ratio))))
    while height * width > largest:
        height, width = (height - 1, width) if height >= width else (height, width - 1)
    return height, width
