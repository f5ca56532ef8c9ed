from math import cos, pi, sin

import pytest
import torch
from torch.nn.functional import normalize

from sanslabel.losses import near_and_far, time_triplet


def loop(z, times, near, far, margin, groups=None):
    """The loss anchor by anchor and positive by positive."""
    unit = normalize(z.double(), dim=1)
    groups = [0] * len(z) if groups is None else groups.tolist()
    total, pairs = 0.0, 0
    for a in range(len(z)):
        distance = [float((unit[a] - unit[n]).square().sum()) for n in range(len(z))]
        gap = [float(abs(times[a] - times[n])) for n in range(len(z))]
        negatives = [distance[n] for n in range(len(z)) if groups[n] == groups[a] and gap[n] > far + 1e-6]
        for p in range(len(z)):
            if p == a or groups[p] != groups[a] or gap[p] > near + 1e-6 or not negatives:
                continue
            farther = [d for d in negatives if d > distance[p] + 1e-12]
            total += max(0.0, margin + distance[p] - (min(farther) if farther else max(negatives)))
            pairs += 1
    return total / max(1, pairs)


def half_circle(frames=36):
    """Frames that go around half of a circle at equal steps."""
    angles = [pi * i / frames for i in range(frames)]
    return torch.tensor([[cos(x), sin(x)] for x in angles], dtype=torch.float64)


FRAMES = torch.arange(36, dtype=torch.float64)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_equal_embeddings_cost_the_margin(scale):
    z = torch.full((36, 4), scale)
    assert time_triplet(z, FRAMES, 6, 12, 0.2).item() == pytest.approx(0.2, abs=1e-7)


def test_frames_on_a_half_circle():
    """METHODS2.md 1.1: far ones are far enough at 6 and 12 frames, and not at 1 and 2."""
    assert time_triplet(half_circle(), FRAMES, 6, 12, 0.2).item() == 0
    assert time_triplet(half_circle(), FRAMES, 1, 2, 0.2).item() == pytest.approx(0.139462, abs=1e-6)


def test_36_frames_have_390_positive_pairs():
    positive, negative = near_and_far(FRAMES, 6, 12)
    assert int(positive.sum()) == 390
    assert not (positive & negative).any()
    assert torch.equal(positive, positive.T)


def test_seconds_are_rounded_and_frames_count_as_if_they_were_not():
    seconds = FRAMES / 30
    for counted, exact in zip(near_and_far(seconds, 0.2, 0.4), near_and_far(FRAMES, 6, 12), strict=True):
        assert torch.equal(counted, exact)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("clips", [None, 3])
def test_it_is_the_loop(seed, clips):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(30, 3, generator=generator, dtype=torch.float64)
    times = torch.rand(30, generator=generator, dtype=torch.float64)
    groups = None if clips is None else torch.randint(clips, (30,), generator=generator)
    found = time_triplet(z, times, 0.2, 0.4, 0.2, groups)
    assert found.item() == pytest.approx(loop(z, times, 0.2, 0.4, 0.2, groups), abs=1e-10)


def test_the_negative_is_the_closest_that_is_farther_than_the_positive():
    """The anchor at 0°, a positive at 20°, and far frames at 10°, 30° and 90°: that at 30° counts."""
    angles = torch.tensor([0.0, 20.0, 10.0, 30.0, 90.0], dtype=torch.float64) * pi / 180
    z = torch.stack([angles.cos(), angles.sin()], dim=1)
    times = torch.tensor([0.0, 1.0, 50.0, 150.0, 250.0], dtype=torch.float64)

    def squared(degrees):
        return 2 - 2 * cos(degrees * pi / 180)

    # From the anchor at 20°, the other far ones are at 10° and 10°; that at 90° is the only one farther than 20°.
    first, second = 0.2 + squared(20) - squared(30), max(0.0, 0.2 + squared(20) - squared(70))
    assert time_triplet(z, times, 2, 4, 0.2).item() == pytest.approx((first + second) / 2)


def test_without_a_farther_one_the_farthest_counts():
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    times = torch.tensor([0.0, 1.0, 50.0, 60.0])  # 50 and 60 are far from each other, and from the pair
    assert time_triplet(z, times, 2, 4, 0.2).item() == pytest.approx(loop(z, times, 2, 4, 0.2))
    assert loop(z, times, 2, 4, 0.2) == pytest.approx((0.2 + 4 - 2 + 0.2 + 4 - 4) / 2)


def test_frames_of_other_clips_are_neither():
    groups = torch.tensor([0, 0, 1, 1])
    positive, negative = near_and_far(torch.tensor([0.0, 1.0, 0.0, 5.0]), 1, 2, groups)
    assert torch.equal(positive.nonzero(), torch.tensor([[0, 1], [1, 0]]))
    assert torch.equal(negative.nonzero(), torch.tensor([[2, 3], [3, 2]]))


def test_a_model_that_knows_the_clip_alone_costs_the_margin():
    """If frames of other clips were negatives, it would cost nothing."""
    z, groups = torch.eye(2).repeat_interleave(36, dim=0), torch.arange(2).repeat_interleave(36)
    assert time_triplet(z, FRAMES.repeat(2), 6, 12, 0.2, groups).item() == pytest.approx(0.2, abs=1e-7)


def test_without_pairs_or_negatives_it_is_0_and_has_a_gradient_of_0():
    for times in (torch.zeros(5), 100 * torch.arange(5.0)):  # all near, all far
        z = torch.randn(5, 3).requires_grad_()
        loss = time_triplet(z, times, 1, 2, 0.2)
        loss.backward()
        assert loss.item() == 0
        assert not z.grad.any()


def test_gradients():
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(12, 3, generator=generator, dtype=torch.float64).requires_grad_()
    times = torch.arange(12, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: time_triplet(x, times, 2, 4, 0.5), (z,))


def test_half_precision_inputs_are_computed_in_float32_also_under_autocast():
    z = torch.randn(36, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = time_triplet(z, FRAMES, 6, 12, 0.2)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(time_triplet(z.double(), FRAMES, 6, 12, 0.2).item(), rel=1e-4)
