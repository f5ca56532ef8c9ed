"""Blocks of patches against drawing them one at a time."""

import math

import pytest
import torch

from sanslabel.errors import BadInput
from sanslabel.randomness import fold, uniform
from sanslabel.views import blockwise, multiblock
from sanslabel.views.blocks import BRANCH, TRIES, _height_and_width

KEYS = torch.arange(300) * 2654435761 % 2**32
GRIDS = [(4, 4), (7, 7), (14, 14), (5, 9)]
JEPA = dict(targets=4, target_scale=(0.15, 0.2), target_ratio=(0.75, 1.5), context_scale=(0.85, 1.0), stream=1)


def share(fraction: float, grid: tuple[int, int]) -> int:
    return max(1, round(fraction * grid[0] * grid[1]))


def drawn_singly(key: int, grid, count: int, smallest: int, stream: int) -> tuple[list[int], int]:
    """A mask rectangle by rectangle, patch by patch, and how many patches the rectangles gave."""
    tall, wide = grid
    keys = torch.tensor([key])
    draws = uniform(keys, 4 * TRIES, fold(stream, BRANCH, 0)).view(TRIES, 4)
    masked: set[int] = set()
    for size, shape, down, along in draws:
        missing = count - len(masked)
        area = smallest + size * (max(missing, 1) - smallest)
        ratio = torch.exp(2 * math.log(0.3) * (shape - 0.5))  # height / width
        height = min(max(round(float((area * ratio).sqrt())), 1), tall)
        width = min(max(round(float((area / ratio).sqrt())), 1), wide)
        top, left = int(down * (tall - height + 1)), int(along * (wide - width + 1))
        block = {r * wide + c for r in range(top, top + height) for c in range(left, left + width)}
        if len(block - masked) <= missing:
            masked |= block
    in_rectangles = len(masked)
    filling = uniform(keys, tall * wide, fold(stream, BRANCH, 1))[0].tolist()
    rest = sorted(set(range(tall * wide)) - masked, key=lambda patch: -filling[patch])
    return sorted(masked | set(rest[: count - in_rectangles])), in_rectangles


@pytest.mark.parametrize("grid", GRIDS)
def test_blockwise_masks_are_those_drawn_singly(grid):
    count, smallest = share(120 / 196, grid), share(16 / 196, grid)
    masks = blockwise(KEYS, grid, count, smallest, 5)
    assert masks.shape == (len(KEYS), count)
    assert masks.dtype == torch.int64
    singly = [drawn_singly(int(key), grid, count, smallest, 5) for key in KEYS]
    assert masks.tolist() == [mask for mask, _ in singly]
    assert sum(in_rectangles for _, in_rectangles in singly) > 0.93 * count * len(KEYS), (
        "rectangles make nearly all of it"
    )


def test_blockwise_masks_are_in_blocks_everywhere():
    mask = torch.zeros(len(KEYS), 196).scatter_(1, blockwise(KEYS, (14, 14), 120, 16, 0), 1.0)
    pictures = mask.view(-1, 14, 14)
    both = (pictures[:, 1:] * pictures[:, :-1]).mean() / (120 / 196)
    assert both > 0.85, "the patch below a masked one is masked; 0.61 for patches drawn singly"
    often = mask.mean(dim=0)
    assert often.min() > 0.08  # of corners
    assert often.max() < 0.95  # of the middle


@pytest.mark.parametrize("count", [0, 16, 20])
def test_masking_all_or_nothing_is_refused(count):
    with pytest.raises(BadInput, match="masks one and leaves one"):
        blockwise(KEYS, (4, 4), count, 1, 0)


@pytest.mark.parametrize("draw", [lambda k, s: [blockwise(k, (7, 7), 30, 4, s)], lambda k, s: multiblock(
    k, 9, (7, 7), 4, (0.15, 0.2), (0.75, 1.5), (0.85, 1.0), s
)])  # fmt: skip
def test_blocks_belong_to_key_and_stream(draw):
    for full, selected, other in zip(draw(KEYS, 1), draw(KEYS[[5, 90]], 1), draw(KEYS, 2), strict=True):
        assert torch.equal(full[[5, 90]], selected)
        assert not torch.equal(full, other)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("step", range(5))
def test_contexts_and_targets(grid, step):
    tall, wide = grid
    patches = tall * wide
    context, targets = multiblock(KEYS, step, grid, **JEPA)
    area = targets.shape[2]
    assert area <= 0.2 * patches
    assert targets.shape[:2] == (len(KEYS), 4)
    assert context.shape == (len(KEYS), patches - 4 * area)
    assert (context.diff(dim=1) > 0).all()
    shown = torch.zeros(len(KEYS), patches, dtype=torch.bool).scatter_(1, context, True)
    assert not shown.gather(1, targets.flatten(1)).any(), "no target is seen"
    places = torch.stack([targets // wide, targets % wide], dim=-1)  # (N, T, M, 2)
    first = places[:, :, :1]
    shape = (places - first).flatten(0, 1)
    assert (shape == shape[0]).all(), "one size for the batch"
    height, width = (shape[0].amax(dim=0) + 1).tolist()
    assert height * width == area
    assert (places[..., 0].min(), places[..., 0].max()) == (0, tall - 1), "first and last rows are targets at times"
    assert (places[..., 1].min(), places[..., 1].max()) == (0, wide - 1)


def test_contexts_are_what_the_square_has_beside_targets():
    """Where the square holds enough free patches, the context is all inside of it."""
    inside = 0
    for key in KEYS.tolist():
        context, targets = multiblock(torch.tensor([key]), 3, (14, 14), **JEPA)
        scale = 0.85 + 0.15 * uniform(torch.tensor([3]), 3, fold(1, BRANCH, 2))[0, 2].item()
        side = min(14, round(math.sqrt(scale * 196)))
        free = set(range(196)) - set(targets.flatten().tolist())
        chosen = set(context.flatten().tolist())
        squares = [
            {r * 14 + c for r in range(top, top + side) for c in range(left, left + side)}
            for top in range(15 - side)
            for left in range(15 - side)
        ]
        assert any(chosen <= square or (square & free) <= chosen for square in squares)
        inside += any(chosen <= square for square in squares)
    assert inside > 0.9 * len(KEYS)


def test_sizes_change_with_the_batch_within_their_ranges():
    areas, ratios = [], []
    for step in range(200):
        targets = multiblock(KEYS[:1], step, (28, 28), **JEPA).targets[0, 0]
        height, width = (targets // 28).unique().numel(), (targets % 28).unique().numel()
        areas.append(height * width / 784)
        ratios.append(height / width)
    assert 0.13 < min(areas) < 0.155
    assert 0.19 < max(areas) <= 0.2
    assert 0.68 < min(ratios) < 0.82
    assert 1.4 < max(ratios) < 1.65
    assert abs(torch.corrcoef(torch.tensor([areas, ratios]))[0, 1]) < 0.25, "two numbers, not one"


def test_targets_that_may_cover_all_are_refused():
    with pytest.raises(BadInput, match="6 targets of up to 9 of 49 patches leave no context"):
        multiblock(KEYS, 0, (7, 7), **JEPA | {"targets": 6})


@pytest.mark.parametrize(
    ("area", "ratio", "grid", "largest", "expected"),
    [(36, 1.0, (14, 14), 39, (6, 6)), (39, 1.5, (14, 14), 39, (7, 5)), (3, 1.0, (4, 4), 3, (1, 2)),
     (0.3, 1.0, (4, 4), 1, (1, 1)), (49, 1.0, (5, 9), 45, (5, 7)), (45, 1.0, (5, 9), 45, (5, 7))],
)  # fmt: skip
def test_height_and_width(area, ratio, grid, largest, expected):
    assert _height_and_width(area, ratio, grid, largest) == expected
