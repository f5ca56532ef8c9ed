"""Views as a whole: their numbers, their precision, what they depend on and what they refuse."""

import json
import math
from dataclasses import asdict, replace

import pytest
import torch
from torchvision.transforms.v2 import functional

from sanslabel.batch import Labels
from sanslabel.errors import BadInput
from sanslabel.views import BYOL, SIMCLR, Pair, View
from sanslabel.views.blur import radius
from sanslabel.views.color import LUMA

pytestmark = pytest.mark.usefixtures("form")

EVERYTHING = replace(SIMCLR, solarize=0.3, size=24)
LIMIT = 1.95  # Kolmogorov's, exceeded by chance once in a thousand; the draws are fixed


def pictures(n=24, channels=3, height=30, width=34, dtype=torch.float32):
    noise = torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(3))
    smooth = functional.gaussian_blur(noise, [5, 5], [2.0, 2.0])
    stretched = ((smooth - 0.3) / 0.4).clamp(0, 1)
    return (stretched * 255).round().to(torch.uint8) if dtype == torch.uint8 else stretched.to(dtype)


def loop(image, draw, i, size):
    """One sample's view, operation by operation, from the draws."""
    x = functional.resized_crop(image, *draw.boxes[i].tolist(), [size, size], antialias=True)
    if draw.mirrored is not None and draw.mirrored[i]:
        x = functional.horizontal_flip(x)
    if draw.sigma is not None and draw.sigma[i] > 0:
        x = functional.gaussian_blur(x, [2 * radius(size) + 1] * 2, [draw.sigma[i].item()] * 2)
    if draw.colors is not None:
        weights = torch.tensor(LUMA if len(x) == 3 else [1 / len(x)] * len(x), dtype=x.dtype)[:, None, None]
        x = draw.colors.brightness[i] * x
        c = draw.colors.contrast[i].double()
        x = c * x + (1 - c) * (weights * x).sum(0).mean()
        if len(x) == 3:
            s, h = draw.colors.saturation[i].double(), 2 * math.pi * draw.colors.hue[i].double()
            x = s * x + (1 - s) * (weights * x).sum(0)
            plane = torch.tensor([LUMA, (1, -0.5, -0.5), (0, 0.75**0.5, -(0.75**0.5))], dtype=x.dtype)
            rotation = torch.tensor([(1, 0, 0), (0, h.cos(), -h.sin()), (0, h.sin(), h.cos())], dtype=x.dtype)
            x = torch.einsum("ij,jhw->ihw", torch.linalg.inv(plane) @ rotation @ plane, x)
            if draw.colors.grayscale[i]:
                x = (weights * x).sum(0).expand_as(x)
    x = x.clamp(0, 1)
    return functional.solarize(x, 0.5) if draw.solarized is not None and draw.solarized[i] else x


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("view", [EVERYTHING, replace(EVERYTHING, crop=None), replace(EVERYTHING, blur=0, size=50)])
def test_a_batch_equals_the_loop_over_its_samples(batch_of, channels, view):
    batch = batch_of(pictures(channels=channels, dtype=torch.float64))
    draw = view.draw(batch, 0)
    expected = torch.stack([loop(image, draw, i, view.size) for i, image in enumerate(batch.images().pixels)])
    assert view(batch, 0).shape == (24, channels, view.size, view.size)
    assert (view(batch, 0) - expected).abs().max() < 1e-5


# The largest error of any pixel; brightness, contrast and saturation together amplify rounding up to 5.8 times.
PRECISIONS = {torch.float64: 0.0, torch.float32: 1e-5, torch.float16: 1.5 / 255, torch.bfloat16: 8 / 255}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_floating_images_keep_their_dtype_and_value_with_or_without_autocast(batch_of, channels, dtype):
    batch = batch_of(pictures(channels=channels, dtype=dtype))
    exact = EVERYTHING(batch.with_pixels(batch.images().pixels.double()), 0)
    ours = EVERYTHING(batch, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = EVERYTHING(batch, 0)
    assert ours.dtype == dtype
    assert torch.equal(ours, inside)
    error = (ours.double() - exact).abs()
    assert error.max() <= PRECISIONS[dtype]
    assert error.mean() <= PRECISIONS[dtype] / 10


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_bytes_become_the_dtype_of_the_batch_whatever_autocast_is_on(batch_of, dtype):
    batch = batch_of(pictures(dtype=torch.uint8))
    ours = EVERYTHING(batch, 0)
    assert ours.dtype == torch.float32
    floating = EVERYTHING(batch.with_pixels(batch.images().pixels / 255), 0)
    assert (ours - floating).abs().max() < 1e-6
    half = EVERYTHING(batch._replace(dtype=dtype), 0)
    assert half.dtype == dtype
    assert (half - ours).abs().max() <= PRECISIONS[dtype]
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(EVERYTHING(batch, 0), ours)
        assert torch.equal(EVERYTHING(batch._replace(dtype=dtype), 0), half)


def test_black_and_white_stay_so_in_bfloat16(batch_of):
    for value in (0, 255):
        batch = batch_of(torch.full((8, 1, 28, 28), value, dtype=torch.uint8))._replace(dtype=torch.bfloat16)
        plain = View(crop=(0.08, 1.0), flip=0.5)(batch, 0)
        assert plain.dtype == torch.bfloat16
        assert (plain.float() - value / 255).abs().max() <= 2**-8


def test_a_view_depends_on_key_and_stream_alone(batch_of):
    batch = batch_of(pictures())
    some = torch.tensor([17, 3, 20])
    selected = batch.map(lambda tensor: tensor[some])
    assert torch.allclose(EVERYTHING(batch, 5)[some], EVERYTHING(selected, 5), atol=1e-6)
    for full, piece in zip(leaves(EVERYTHING.draw(batch, 5)), leaves(EVERYTHING.draw(selected, 5)), strict=True):
        assert torch.equal(full[some], piece)
    before = torch.get_rng_state()
    assert torch.equal(EVERYTHING(batch, 5), EVERYTHING(batch, 5))
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(EVERYTHING(batch, 5), EVERYTHING(batch, 6))
    labels = {**batch.signals, "label": Labels(batch.index + 3)}
    changed = batch._replace(signals=labels, index=batch.index + 100)
    assert torch.equal(EVERYTHING(batch, 5), EVERYTHING(changed, 5))


def leaves(draw):
    return [draw.boxes, draw.mirrored, draw.sigma, *draw.colors, draw.solarized]


def test_leaving_an_operation_out_moves_no_draw_of_another(batch_of):
    batch = batch_of(pictures())
    full = EVERYTHING.draw(batch, 2)
    without = replace(EVERYTHING, crop=None, flip=0, blur=0, jitter=0, solarize=0).draw(batch, 2)
    assert torch.equal(without.colors.grayscale, full.colors.grayscale)
    assert without.mirrored is without.sigma is without.solarized is None
    assert torch.equal(replace(EVERYTHING, blur=0, grayscale=0).draw(batch, 2).boxes, full.boxes)
    assert torch.equal(replace(EVERYTHING, crop=None).draw(batch, 2).sigma, full.sigma)


def many_draws(batch_of, stream, n=20_000):
    batch = batch_of(torch.zeros((), dtype=torch.uint8).expand(n, 3, 200, 200))
    return replace(EVERYTHING, brightness=0.4, contrast=1.5).draw(batch, stream)


def distance(sample, low, high):
    """Kolmogorov's, of a sample from the uniform distribution, in units of 1/sqrt(n)."""
    n = len(sample)
    expected = ((sample.double().sort().values - low) / (high - low)).clamp(0, 1)
    steps = torch.arange(n + 1) / n
    return math.sqrt(n) * torch.maximum((steps[1:] - expected).abs(), (steps[:-1] - expected).abs()).max()


def test_drawn_numbers_have_their_distributions(batch_of):
    draw = many_draws(batch_of, 0)
    n = len(draw.boxes)
    jittered = draw.colors.brightness != 1
    rates = {"flip": draw.mirrored, "jitter": jittered, "grayscale": draw.colors.grayscale, "blur": draw.sigma > 0,
             "solarize": draw.solarized}  # fmt: skip
    for name, events in rates.items():
        p = getattr(EVERYTHING, name)
        assert abs(events.double().mean() - p) < 3.3 * math.sqrt(p * (1 - p) / n), name
    assert distance(draw.colors.brightness[jittered], 0.6, 1.4) < LIMIT
    assert distance(draw.colors.contrast[jittered], 0.0, 2.5) < LIMIT  # 1 - 1.5 is cut off at 0
    assert distance(draw.colors.saturation[jittered], 0.2, 1.8) < LIMIT
    assert distance(draw.colors.hue[jittered], -0.2, 0.2) < LIMIT
    assert distance(draw.sigma[draw.sigma > 0], 0.1, 2.0) < LIMIT
    for x in (draw.colors.contrast, draw.colors.saturation):
        assert torch.equal(x != 1, jittered)


def test_drawn_numbers_and_streams_are_unrelated(batch_of):
    table = torch.cat(
        [torch.stack([x.double() for x in leaves(d)[1:]] + list(d.boxes.double().T)) for d in
         (many_draws(batch_of, 0), many_draws(batch_of, 1))]
    )  # fmt: skip
    related = torch.corrcoef(table).abs()
    count = related.shape[0] // 2
    assert related[:count, count:].max() < 0.03  # across streams, all of them
    within = related[:count, :count].fill_diagonal_(0)
    allowed = torch.zeros(count, count, dtype=torch.bool)
    allowed[-4:, -4:] = True  # a box's numbers depend on each other; all others do not
    assert within[~allowed].max() < 0.03


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("view", [EVERYTHING, replace(EVERYTHING, crop=None)])
def test_nothing_outside_the_true_size_is_read(batch_of, channels, view):
    sizes = torch.stack([5 + torch.arange(24), 34 - torch.arange(24)], dim=1)
    images = pictures(channels=channels, dtype=torch.uint8)
    inside = (torch.arange(30)[:, None] < sizes[:, 0, None, None]) & (torch.arange(34) < sizes[:, 1, None, None])
    zeros, junk = (torch.where(inside[:, None], images, value).to(torch.uint8) for value in (0, 255))
    assert not torch.equal(zeros, junk)
    assert torch.equal(view(batch_of(zeros, sizes), 0), view(batch_of(junk, sizes), 0))
    draw = view.draw(batch_of(zeros, sizes), 0)
    assert (draw.boxes[:, :2] + draw.boxes[:, 2:] <= sizes).all()
    for i in (0, 11, 23):  # an image on a canvas has the view that it has alone
        h, w = sizes[i].tolist()
        alone = batch_of(images[i : i + 1, :, :h, :w].contiguous())._replace(key=batch_of(zeros).key[i : i + 1])
        assert torch.allclose(view(alone, 0), view(batch_of(zeros, sizes), 0)[i : i + 1], atol=1e-6)


def test_the_size_is_the_shorter_side_of_the_canvas_if_open(batch_of):
    batch = batch_of(pictures())
    assert View()(batch, 0).shape == (24, 3, 30, 30)
    assert View(size=7)(batch, 0).shape == (24, 3, 7, 7)
    square = batch_of(pictures(width=30))
    assert torch.equal(View()(square, 0), square.images().pixels)


def test_views_carry_no_gradient_and_leave_the_images_alone(batch_of):
    images = pictures().requires_grad_()
    assert not SIMCLR(batch_of(images), 0).requires_grad
    stored = pictures(dtype=torch.uint8)
    SIMCLR(batch_of(stored), 0)
    assert torch.equal(stored, pictures(dtype=torch.uint8))
    strided = pictures().to(memory_format=torch.channels_last)
    assert torch.allclose(SIMCLR(batch_of(strided), 0), SIMCLR(batch_of(pictures()), 0), atol=1e-6)


def test_brightness_above_one_is_clamped_at_the_end(batch_of):
    view = View(jitter=1, brightness=1)
    batch = batch_of(pictures())
    draw = view.draw(batch, 0)
    factor = draw.colors.brightness[:, None, None, None]
    expected = (View()(batch, 0) * factor).clamp(0, 1)
    assert torch.allclose(view(batch, 0), expected, atol=1e-6)
    assert (expected == 1).any()


@pytest.mark.parametrize("name", ["saturation", "hue", "grayscale"])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_what_needs_rgb_refuses_other_channels_unless_it_may_be_omitted(batch_of, name, channels):
    view = View(jitter=0.5, brightness=0.3, **{name: 0.3})
    batch = batch_of(pictures(channels=channels))
    with pytest.raises(BadInput, match=rf"{name} needs RGB.* {channels}; set it to 0, or without_rgb to \"omit\""):
        view(batch, 0)
    omitted = replace(view, without_rgb="omit")(batch, 0)
    assert torch.equal(omitted, replace(view, **{name: 0.0})(batch, 0))
    assert not torch.equal(omitted, View()(batch, 0))
    assert view(batch_of(pictures()), 0).shape[1] == 3


def test_images_of_other_dtypes_are_refused(batch_of):
    with pytest.raises(BadInput, match=r"torch.int16; give uint8"):
        View()(batch_of(pictures().to(torch.int16)), 0)


@pytest.mark.parametrize(
    "wrong",
    [
        dict(flip=1.1), dict(blur=-0.1), dict(hue=0.6), dict(brightness=-1.0), dict(crop=(0.0, 1.0)),
        dict(crop=(0.5, 0.2)), dict(crop=(0.5, 1.2)), dict(ratio=(2.0, 1.0)), dict(sigma=(0.0, 1.0)), dict(size=0),
        dict(flip=math.nan),
    ],
)  # fmt: skip
def test_numbers_that_make_no_sense_are_refused_by_name(wrong):
    with pytest.raises(BadInput, match=f"A view's {next(iter(wrong))} is .*; give "):
        View(**wrong)


def test_a_pair_takes_its_views_in_turn(batch_of):
    batch = batch_of(pictures())
    pair = Pair(first=View(crop=(0.2, 1.0)), second=View(solarize=1))
    for stream in range(4):
        assert torch.equal(pair(batch, stream), (pair.first, pair.second)[stream % 2](batch, stream))
    assert replace(pair, size=9)(batch, 1).shape == (24, 3, 9, 9)
    assert (BYOL.first.draw(batch, 0).sigma > 0).all()


def test_views_are_plain_numbers():
    fields = json.loads(json.dumps(asdict(EVERYTHING)))
    assert View(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}) == EVERYTHING
    assert hash(EVERYTHING) == hash(replace(EVERYTHING))
