"""Changes of tones against Pillow's, which rounds to whole levels."""

import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from sanslabel import views
from sanslabel.batch import Batch
from sanslabel.views.photometric import draw_tones, posterized, sharpened, solarized, stretched, toned

PIXELS = torch.randint(20, 200, (6, 3, 9, 7), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
VALUES = [4, 5, 6, 7, 8, 8], [0.1, 0.5, 1.0, 1.3, 1.9, 1.0], [0, 60, 128, 255, 256, 100]


def pillow(change) -> torch.Tensor:
    """What a change of each image with its value gives, (N, C, H, W) in levels."""
    images = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in PIXELS]
    changed = [change(image, i) for i, image in enumerate(images)]
    levels = [torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(9, 7, 3) for image in changed]
    return torch.stack(levels).permute(0, 3, 1, 2).double()


def pillow_all(image: Image.Image, i: int) -> Image.Image:
    image = ImageEnhance.Sharpness(ImageOps.posterize(image, VALUES[0][i])).enhance(VALUES[1][i])
    return ImageOps.autocontrast(ImageOps.solarize(image, VALUES[2][i]))


BITS, FACTORS, THRESHOLDS = (torch.tensor(v) for v in VALUES)
CASES = {
    "posterized": (posterized, (BITS,), lambda x, i: ImageOps.posterize(x, VALUES[0][i]), 1e-9),
    "sharpened": (sharpened, (FACTORS,), lambda x, i: ImageEnhance.Sharpness(x).enhance(VALUES[1][i]), 1.5),
    "solarized": (solarized, (THRESHOLDS.double() / 255,), lambda x, i: ImageOps.solarize(x, VALUES[2][i]), 1e-9),
    "stretched": (stretched, (), lambda x, i: ImageOps.autocontrast(x), 1.0),
}


@pytest.mark.parametrize("name", CASES)
def test_each_change_is_pillows(name):
    change, values, theirs, levels = CASES[name]
    ours = 255 * change(PIXELS.double() / 255, *values)
    assert (ours - pillow(theirs)).abs().max() <= levels
    assert ours.dtype == torch.float64


def test_all_are_applied_in_order_to_the_drawn_samples():
    tones = draw_tones(torch.arange(6), 1.0, 0)._replace(
        bits=BITS, sharpness=FACTORS, threshold=THRESHOLDS.double() / 255
    )
    images = PIXELS.double() / 255
    ours = toned(images, tones)
    assert (255 * ours - pillow(pillow_all)).abs().quantile(0.9) <= 4  # rounding may move a value over the threshold
    assert torch.equal(toned(images, tones._replace(changed=torch.zeros(6, dtype=torch.bool))), images)
    flat = torch.full((6, 1, 2, 2), 0.25)
    assert toned(flat, tones).isfinite().all()


def test_draws_cover_the_authors_ranges():
    tones = draw_tones(torch.arange(20_000), 0.66, 1)
    assert tones.changed.float().mean().item() == pytest.approx(0.66, abs=0.01)
    assert tones.bits.unique().tolist() == [4, 5, 6, 7, 8]
    assert (tones.bits.bincount()[4:] / 20_000 - 0.2).abs().max() < 0.015
    assert 0.1 <= tones.sharpness.min() < 0.11
    assert 1.89 < tones.sharpness.max() <= 1.9
    levels = (tones.threshold * 255).round()
    assert (levels.min(), levels.max()) == (0, 256)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_view_changes_tones_by_the_samples_key_alone(dtype):
    key = torch.arange(40)
    batch = Batch.of_images(torch.rand(40, 1, 8, 8), key, key)._replace(dtype=dtype)
    view = views.View(photometric=0.66)
    changed, plain = view(batch, 0), views.View()(batch, 0)
    same = (changed == plain).flatten(1).all(dim=1)
    assert torch.equal(same, ~draw_tones(key, 0.66, 0).changed)
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert torch.equal(view(batch.map(lambda x: x[7:9]), 0), changed[7:9])
    with pytest.raises(Exception, match="photometric"):
        views.View(photometric=1.5)
