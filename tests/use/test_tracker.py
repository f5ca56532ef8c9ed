"""The tracker: each part against a loop, and objects whose boxes are known."""

import numpy as np
import pytest
import torch

from sanslabel.use.tracker import (
    RETURN,
    camera_motion,
    correlations,
    matched,
    median_of,
    overlap,
    patches,
    peaks,
    regions,
    tracks_in,
)

HEIGHT, WIDTH, SIDE = 120, 160, 30
CPU = torch.device("cpu")


def ground(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A textured background, darker than objects."""
    random = np.random.default_rng(seed)
    return random.integers(0, 110, (height // 5, width // 5)).repeat(5, 0).repeat(5, 1)


def texture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(130, 255, (SIDE // 3, SIDE // 3)).repeat(3, 0).repeat(3, 1)


def clip(places, frames: int, pan: int = 0, hidden: range = range(0)) -> list[torch.Tensor]:
    """Frames with an object at each of `places`, functions of the frame that return left and top in the background.
    hidden: the frames in which a bar covers the middle of the picture."""
    wide = ground(HEIGHT, WIDTH + 5 * 40)
    shown = []
    for frame in range(frames):
        picture = wide.copy()
        for number, place in enumerate(places):
            x, y = place(frame)
            picture[y : y + SIDE, x : x + SIDE] = texture(number)
        if frame in hidden:
            picture[:, WIDTH // 2 - 30 : WIDTH // 2 + 30] = 60
        shown.append(torch.from_numpy(picture[:, frame * pan : frame * pan + WIDTH].astype(np.uint8)))
    return shown


def overlaps_of(track, place, pan: int = 0) -> torch.Tensor:
    """The overlap of each box of a track with the true one."""
    corners = torch.stack(track.corners)
    lefts = [(place(frame)[0] - pan * frame, place(frame)[1]) for frame in range(track.begin, track.end + 1)]
    true = torch.tensor([[x, y, x + SIDE, y + SIDE] for x, y in lefts]).float()
    return overlap(corners, true).diagonal()


def test_correlations_are_those_of_a_loop():
    template, search = torch.rand(3, 4, 4, dtype=torch.float64), torch.rand(3, 9, 9, dtype=torch.float64)
    scores = correlations(template, search)
    assert scores.shape == (3, 6, 6)
    for n in range(3):
        for y in range(6):
            for x in range(6):
                pair = torch.stack([template[n].flatten(), search[n, y : y + 4, x : x + 4].flatten()])
                assert scores[n, y, x].item() == pytest.approx(pair.corrcoef()[0, 1].item(), abs=1e-9)


def test_a_plain_region_correlates_with_nothing():
    assert correlations(torch.full((1, 4, 4), 0.3), torch.rand(1, 9, 9)).abs().max() < 1e-3
    assert correlations(torch.rand(1, 4, 4), torch.full((1, 9, 9), 0.3)).abs().max() < 1e-3


def test_a_peak_lies_between_cells():
    y, x = torch.meshgrid(torch.arange(7.0), torch.arange(7.0), indexing="ij")
    shift, best = peaks((1 - 0.05 * ((x - 4.3).square() + (y - 2.8).square()))[None])
    torch.testing.assert_close(shift, torch.tensor([[1.3, -0.2]]))
    assert best.item() == pytest.approx(1 - 0.05 * (0.09 + 0.04))


def test_patches_are_the_pixels_of_their_boxes():
    frame = torch.rand(20, 30)
    cut = patches(frame, torch.tensor([[3.0, 5.0, 11.0, 13.0], [20.0, 10.0, 28.0, 18.0]]), 8)
    torch.testing.assert_close(cut[0], frame[5:13, 3:11])
    torch.testing.assert_close(cut[1], frame[10:18, 20:28])


def test_regions_are_those_of_a_flood():
    mask = torch.rand(25, 33, generator=torch.Generator().manual_seed(0)) < 0.3
    left, expected = set(map(tuple, mask.nonzero().tolist())), []
    while left:
        pending, cells = [left.pop()], []
        while pending:
            y, x = pending.pop()
            cells.append((y, x))
            near = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            pending += near
        ys, xs = zip(*cells, strict=True)
        expected.append([min(xs), min(ys), max(xs) + 1, max(ys) + 1])
    assert sorted(regions(mask).tolist()) == sorted(expected)
    assert regions(torch.zeros(4, 5, dtype=torch.bool)).shape == (0, 4)


def test_a_box_follows_its_picture_and_finds_back():
    (first, second) = (frame.float() / 255 for frame in clip([lambda t: (40 + 7 * t, 50 - 4 * t)], 2))
    corners = torch.tensor([[40.0, 50.0, 70.0, 80.0]])
    moved, score = matched(first, second, corners)
    torch.testing.assert_close(moved, corners + torch.tensor([7.0, -4.0, 7.0, -4.0]), atol=1.0, rtol=0)
    back, _ = matched(second, first, moved)
    assert (back - corners).abs().max() < RETURN
    assert score.item() > 0.9


@pytest.mark.parametrize("pan", [0, 3])
def test_the_camera_moves_against_the_picture(pan):
    frames = [frame.float() / 255 for frame in clip([], 2, pan)]
    assert camera_motion(*frames).tolist() == [pan, 0]


def test_the_background_is_the_median_of_frames_moved_to_their_place():
    frames = [frame.float() / 255 for frame in clip([lambda t: (20 + 9 * t, 40)], 12, pan=2)]
    background = median_of(frames, [torch.tensor([2.0 * t, 0.0]) for t in range(12)], torch.zeros(2))
    margin = HEIGHT // 2
    shown = background[margin : margin + HEIGHT, margin : margin + WIDTH + 8]
    expected = torch.from_numpy(ground(HEIGHT, WIDTH + 200)[:, : WIDTH + 8]).float() / 255
    assert (shown - expected).abs()[:, 30:].isnan().float().mean() < 0.01
    assert ((shown - expected).abs() > 0.01).float().mean() < 0.01


def test_two_objects_are_two_tracks_with_their_boxes():
    places = [lambda t: (4 + 3 * t, 10), lambda t: (120 - 2 * t, 80)]
    tracks = tracks_in(clip(places, 40), CPU)
    assert len(tracks) == 2
    for track in tracks:
        assert len(track.corners) > 30
        assert max(overlaps_of(track, place).mean().item() for place in places) > 0.75


def test_an_object_is_followed_while_the_camera_moves():
    place = lambda t: (30 + 5 * t, 50 + t % 2)  # noqa: E731
    tracks = tracks_in(clip([place], 40, pan=3), CPU)
    longest = max(tracks, key=lambda track: len(track.corners))
    assert len(longest.corners) > 25
    assert overlaps_of(longest, place, pan=3).mean().item() > 0.7
    static = [track for track in tracks if not overlaps_of(track, place, pan=3).any()]
    assert not static, "the background moves in the picture, but not against itself"


def test_a_track_ends_where_its_object_is_hidden():
    place = lambda t: (4 + 3 * t, 40)  # noqa: E731
    tracks = tracks_in(clip([place], 45, hidden=range(45)), CPU)
    assert len(tracks) >= 1
    for track in tracks:
        assert overlaps_of(track, place).min().item() > 0.3, "no track goes on at a place without its object"


def test_still_objects_and_noise_are_no_tracks():
    random = np.random.default_rng(3)
    still = clip([lambda t: (60, 40)], 30)
    noisy = [(frame + torch.from_numpy(random.integers(0, 8, (HEIGHT, WIDTH)))).byte() for frame in still]
    assert tracks_in(noisy, CPU) == []
