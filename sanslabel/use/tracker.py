"""A small tracker of moving objects, which needs no trained detector.

Objects are proposed where a frame differs from the median of frames, after the motion of the camera is removed. Each is
then followed from frame to frame by the correlation of its picture with places near its last one. All objects of a
frame are one batched matrix product.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, max_pool2d, unfold

CORRELATION = 0.6
"""least correlation of an object with its next place; below it a track ends"""
RETURN = 2.0
"""most pixels between an object and the place that is found for it on the way back; above it a track ends"""
TEMPLATE, SEARCH = 16, 32
"""cells of an object's side, and of the side of the region that it is looked for in, twice as long"""
SCALES = (1.0, 0.96, 1.04)
"""sizes of an object's next box that are tried"""
RESCALED = 0.99
"""factor of a correlation at another size, since noise alone would let boxes grow and shrink"""
WINDOW = 240
"""frames of which one median is the background"""
SAMPLED = 40
"""frames of a window that the median is computed of"""
DIFFERENT = 18 / 255
"""least difference from the background, of values in [0, 1], for a place that moves"""
CELL = 2
"""pixels of a cell in which movement is looked for"""
SMALLEST, LARGEST = 12, 0.5
"""least side of a moving region in pixels, and most as a share of the frame's shorter side"""
SHORTEST = 8
"""least number of frames of a track"""
MOVED = 0.5
"""least way of a track against the background, as a share of the object's side"""
OVERLAP = 0.3
"""overlap (intersection over union) of a track with a moving region from which it takes over the region's box"""
GRID = (5, 7)
"""rows and columns of places that the camera's motion is measured at"""
PLAIN = 4 / 255
"""least standard deviation of a place that has something to follow"""


@dataclass
class Track:
    """One object over time."""

    begin: int
    """number of its first frame, from 0"""
    corners: list[Tensor] = field(default_factory=list)
    """(4,) each, left, top, right and bottom in pixels, of its frames from `begin` on"""
    scores: list[float] = field(default_factory=list)
    """correlation of each frame's picture with the one before; 1 for the first"""
    places: list[Tensor] = field(default_factory=list)
    """(2,) each, the middle of each box against the background"""

    @property
    def end(self) -> int:
        """Returns the number of its last frame."""
        return self.begin + len(self.corners) - 1

    @property
    def counts(self) -> bool:
        """Returns True if the track is long enough, and its object moves against the background."""
        if len(self.corners) < SHORTEST:
            return False
        places = torch.stack(self.places)
        corners = torch.stack(self.corners)
        side = (corners[:, 2:] - corners[:, :2]).mean()
        return bool((places.amax(0) - places.amin(0)).norm() >= MOVED * side)


def tracks_in(frames: Iterable[Tensor], device: torch.device) -> list[Track]:
    """Returns the tracks of the objects that move in a video, sorted by their first frame.

    frames: gray frames in order, (H, W) uint8 each. They are read once, `WINDOW` at a time.
    """
    done, active, last, offset, number = list[Track](), list[Track](), None, torch.zeros(2), 0
    stream = iter(frames)
    while window := list(islice(stream, WINDOW)):
        pixels = [frame.to(device).float() / 255 for frame in window]
        offsets = list(_offsets(pixels, last, offset))
        margin, origin, background = min(pixels[0].shape) // 2, None, pixels[0]
        for frame, offset in zip(pixels, offsets, strict=True):
            if origin is None or (offset - origin).abs().max() > margin / 2:
                origin, background = offset, median_of(pixels, offsets, offset)
            if last is not None:
                active, ended = _followed(active, last, frame, offset)
                done += ended
            moving = proposals(frame, background, offset - origin)
            active, ended = _corrected(active, moving, min(frame.shape), number, offset)
            done += ended
            last, number = frame, number + 1
    return sorted((track for track in done + active if track.counts), key=lambda track: track.begin)


def _offsets(frames: list[Tensor], last: Tensor | None, offset: Tensor) -> Iterator[Tensor]:
    """Yields the place of each frame's corner against the background, (2,) pixels across and down."""
    for frame in frames:
        offset = offset if last is None else offset + camera_motion(last, frame)
        yield offset
        last = frame


def camera_motion(frame: Tensor, following: Tensor) -> Tensor:
    """Returns the motion of the camera between two frames, (2,) whole pixels to the right and down.

    It is minus the median motion of a grid of places. frame, following: (H, W).
    """
    height, width = frame.shape
    side = min(height, width) / 6
    rows, columns = (torch.linspace(side, length - side, n) for length, n in zip((height, width), GRID, strict=True))
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    center = torch.stack([x.flatten(), y.flatten()], 1).to(frame)
    corners = torch.cat([center - side / 2, center + side / 2], 1)
    matches, score = matched(frame, following, corners, SCALES[:1])
    textured = patches(frame, corners, TEMPLATE).flatten(1).std(1) > PLAIN
    usable = textured & (score >= CORRELATION)
    if int(usable.sum()) < 3:
        return torch.zeros(2)
    return -(matches - corners)[usable, :2].median(0).values.round().cpu()


def median_of(frames: list[Tensor], offsets: list[Tensor], origin: Tensor) -> Tensor:
    """Returns the background around a place of the camera: the median of some frames, each moved to its place.

    It is (H + 2 M, W + 2 M) with a margin M of half the shorter side, nan where fewer than five frames show it.
    origin: (2,), the place of the camera at which the background is the frame with its margin.
    """
    height, width = frames[0].shape
    margin = min(height, width) // 2
    near = [row for row, offset in enumerate(offsets) if (offset - origin).abs().max() <= margin]
    chosen = [near[place] for place in torch.linspace(0, len(near) - 1, min(SAMPLED, len(near))).round().int().tolist()]
    canvas = frames[0].new_full((len(chosen), height + 2 * margin, width + 2 * margin), torch.nan)
    for place, row in enumerate(chosen):
        x, y = (margin + offsets[row] - origin).long().tolist()
        canvas[place, y : y + height, x : x + width] = frames[row]
    shown = canvas.isnan().logical_not().sum(0)
    return canvas.nanmedian(0).values.where(shown >= min(5, len(chosen)), torch.nan)


def proposals(frame: Tensor, background: Tensor, offset: Tensor) -> Tensor:
    """Returns the boxes of regions that differ from the background, (n, 4) pixels.

    frame: (H, W); background: see `median_of`; offset: (2,), the frame's place against the background's origin.
    """
    height, width = frame.shape
    margin = (background.shape[0] - height) // 2
    x, y = (margin + offset.long()).tolist()
    apart = (frame - background[y : y + height, x : x + width]).abs().nan_to_num(0)
    cells = avg_pool2d(apart[None, None], CELL)[0, 0]
    moving = max_pool2d((cells > DIFFERENT).float()[None, None], 3, 1, 1)[0, 0] > 0  # over gaps of a cell
    inwards = torch.tensor([1, 1, -1, -1], device=frame.device)  # regions have grown by a cell
    corners = (regions(moving) + inwards) * CELL
    return corners.to(frame)


def regions(mask: Tensor) -> Tensor:
    """Returns the boxes of the connected regions of a mask, (n, 4) int64: left, top, right and bottom.

    mask: (H, W) bool. Cells are connected over sides and corners.
    """
    label = torch.arange(1, mask.numel() + 1, device=mask.device).view(mask.shape).double() * mask
    while True:  # each cell takes the largest number of its neighbors, until nothing changes
        spread = max_pool2d(label[None, None], 3, 1, 1)[0, 0] * mask
        if torch.equal(spread, label):
            break
        label = spread
    values, region = label.unique(return_inverse=True)
    y, x = torch.meshgrid(*(torch.arange(length, device=mask.device) for length in mask.shape), indexing="ij")
    first = torch.full((len(values), 2), max(mask.shape), device=mask.device)
    final = torch.zeros(len(values), 2, dtype=torch.int64, device=mask.device)
    place, index = torch.stack([x.flatten(), y.flatten()], 1), region.flatten()[:, None].expand(-1, 2)
    first.scatter_reduce_(0, index, place, "amin")
    final.scatter_reduce_(0, index, place, "amax")
    return torch.cat([first, final + 1], 1)[values > 0]


def _corrected(
    active: list[Track], corners: Tensor, shorter: int, number: int, offset: Tensor
) -> tuple[list[Track], list[Track]]:
    """Returns the tracks with the boxes of a frame's moving regions, and the tracks that end.

    A track takes over the box of a region that it shares with no other track. It ends where nothing moves against the
    background. A region without a track begins one, if its size fits. `shorter` is the frame's shorter side.
    """
    corners = corners.cpu()
    sides = corners[:, 2:] - corners[:, :2]
    fitting = ((sides.amin(1) >= SMALLEST) & (sides.amax(1) <= LARGEST * shorter)).tolist()
    known = torch.stack([track.corners[-1] for track in active]) if active else corners.new_zeros(0, 4)
    overlaps = overlap(corners, known)  # (regions, tracks)
    shown = overlaps.any(0).tolist()
    for box, row, fits in zip(corners, overlaps, fitting, strict=True):
        near = row.nonzero().flatten().tolist()
        if fits and not near:
            active.append(Track(number, [box], [1.0], [_middle(box) + offset]))
            shown.append(True)
        elif fits and len(near) == 1 and row[near[0]] >= OVERLAP:
            track = active[near[0]]
            track.corners[-1], track.places[-1] = box, _middle(box) + offset
    kept = [track for track, flag in zip(active, shown, strict=True) if flag]
    return kept, [track for track, flag in zip(active, shown, strict=True) if not flag]


def _middle(corners: Tensor) -> Tensor:
    return (corners[:2] + corners[2:]) / 2


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """Returns the intersection over union of all pairs of boxes: (n, 4) and (m, 4) -> (n, m)."""
    low, high = torch.maximum(a[:, None, :2], b[None, :, :2]), torch.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (a, b)]
    return shared / (areas[0][:, None] + areas[1] - shared).clamp(min=1e-6)


def _followed(active: list[Track], frame: Tensor, following: Tensor, offset: Tensor) -> tuple[list[Track], list[Track]]:
    """Returns the tracks that go on in the following frame, one box longer, and those that end before it."""
    if not active:
        return [], []
    corners = torch.stack([track.corners[-1] for track in active]).to(frame)
    matches, score = matched(frame, following, corners)
    back, _ = matched(following, frame, matches, SCALES[:1])
    error = ((back[:, :2] + back[:, 2:]) / 2 - (corners[:, :2] + corners[:, 2:]) / 2).norm(dim=1)
    height, width = frame.shape
    middle = (matches[:, :2] + matches[:, 2:]) / 2
    inside = ((middle >= 0) & (middle <= torch.tensor([width, height]).to(middle))).all(1)
    goes_on = ((score >= CORRELATION) & (error <= RETURN) & inside).cpu()
    kept, ended = list[Track](), list[Track]()
    for track, box, value, lasts in zip(active, matches.cpu(), score.tolist(), goes_on.tolist(), strict=True):
        if lasts:
            track.corners.append(box)
            track.scores.append(value)
            track.places.append(_middle(box) + offset)
        (kept if lasts else ended).append(track)
    return _without_doubles(kept, ended), ended


def _without_doubles(kept: list[Track], ended: list[Track]) -> list[Track]:
    """Returns the tracks without those that have run into an older one; they are added to `ended`."""
    if len(kept) < 2:
        return kept
    corners = torch.stack([track.corners[-1] for track in kept])
    older = torch.ones(len(kept), len(kept)).tril(-1) > 0  # tracks are sorted by their first frame
    double = ((overlap(corners, corners) > 0.7) & older).any(1).tolist()
    ended += [track for track, flag in zip(kept, double, strict=True) if flag]
    return [track for track, flag in zip(kept, double, strict=True) if not flag]


def matched(
    frame: Tensor, following: Tensor, corners: Tensor, scales: tuple[float, ...] = SCALES
) -> tuple[Tensor, Tensor]:
    """Returns the boxes of the best correlation in the following frame, (N, 4), and that correlation, (N,).

    frame, following: (H, W); corners: (N, 4). Boxes move by up to half of their side in each direction.
    """
    template = patches(frame, corners, TEMPLATE)
    center, sides = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    searched = torch.stack([torch.cat([center - scale * sides, center + scale * sides], 1) for scale in scales])
    search = patches(following, searched.flatten(0, 1), SEARCH)  # (scales N, S, S)
    scores = correlations(template.repeat(len(scales), 1, 1), search).unflatten(0, (len(scales), -1))
    shift, best = peaks(scores.flatten(0, 1))
    factors = torch.tensor([1.0 if scale == 1 else RESCALED for scale in scales]).to(best)
    best, shift = best.unflatten(0, (len(scales), -1)), shift.unflatten(0, (len(scales), -1))
    chosen = (best * factors[:, None]).argmax(0)  # (N,)
    index = torch.arange(len(corners), device=corners.device)
    scale = torch.tensor(scales).to(sides)[chosen][:, None]
    center = center + shift[chosen, index] * scale * sides / TEMPLATE
    return torch.cat([center - scale * sides / 2, center + scale * sides / 2], 1), best[chosen, index]


def patches(frame: Tensor, corners: Tensor, side: int) -> Tensor:
    """Returns the parts of a frame in boxes as squares, (N, side, side); outside of the frame its edge goes on.

    frame: (H, W); corners: (N, 4).
    """
    place = (torch.arange(side, device=frame.device) + 0.5) / side
    x, y = (corners[:, axis, None] + (corners[:, axis + 2] - corners[:, axis])[:, None] * place for axis in (0, 1))
    height, width = frame.shape
    grid = torch.stack(
        torch.broadcast_tensors((2 * x / width - 1)[:, None, :], (2 * y / height - 1)[:, :, None]), dim=3
    )
    # One frame serves all boxes: they stand below each other in one tall output.
    sampled = grid_sample(frame[None, None], grid.flatten(0, 1)[None], padding_mode="border", align_corners=False)
    return sampled[0, 0].unflatten(0, (len(corners), side))


def correlations(template: Tensor, search: Tensor) -> Tensor:
    """Returns the normalized correlation of each template with all places of its search region.

    template: (N, T, T); search: (N, S, S) -> (N, S - T + 1, S - T + 1) in [-1, 1].
    """
    flat = template.flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    windows = unfold(search[:, None], template.shape[1])  # (N, T², P²)
    dot = (flat[:, None] @ windows)[:, 0]  # (N, P²)
    deviation = (windows.square().sum(1) - windows.sum(1).square() / flat.shape[1]).clamp(min=0).sqrt()
    length = flat.norm(dim=1, keepdim=True)
    least = 1e-3 * flat.shape[1] ** 0.5  # a plain region correlates with nothing
    side = search.shape[1] - template.shape[1] + 1
    return (dot / (deviation.clamp(min=least) * length.clamp(min=least))).unflatten(1, (side, side))


def peaks(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the shift of the highest score from the middle, (N, 2) cells across and down, and that score, (N,).

    scores: (N, P, P). Along each axis a parabola through three scores gives the fraction of a cell.
    """
    n, side, _ = scores.shape
    best, place = scores.flatten(1).max(1)
    row, column = place // side, place % side
    index = torch.arange(n, device=scores.device)
    shifts = []
    for place_on_axis, line in ((column, scores[index, row]), (row, scores[index, :, column])):
        inner = place_on_axis.clamp(1, side - 2)
        before, here, after = (line.gather(1, (inner + step)[:, None])[:, 0] for step in (-1, 0, 1))
        curve = (before - 2 * here + after).clamp(max=-1e-6)
        fraction = (0.5 * (before - after) / curve).clamp(-0.5, 0.5)
        shifts.append(place_on_axis + fraction.where(place_on_axis == inner, 0) - side // 2)
    return torch.stack(shifts, 1), best
