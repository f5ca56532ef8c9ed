"""The presets hold the numbers of their papers' code, and every one of them takes every kind of image."""

from dataclasses import asdict

import pytest
import torch

from sanslabel import views

PRESETS = ["BYOL", "MASKED", "RECONSTRUCTION", "SIMCLR", "WEAK"]
COLUMNS = ("crop", "brightness", "contrast", "saturation", "hue", "grayscale", "blur", "solarize")
TABLE = {
    "SIMCLR": ((0.08, 1.0), 0.8, 0.8, 0.8, 0.2, 0.2, 0.5, 0.0),
    "WEAK": ((0.2, 1.0), 0.4, 0.4, 0.4, 0.1, 0.2, 0.5, 0.0),
    "BYOL.first": ((0.08, 1.0), 0.4, 0.4, 0.2, 0.1, 0.2, 1.0, 0.0),
    "BYOL.second": ((0.08, 1.0), 0.4, 0.4, 0.2, 0.1, 0.2, 0.1, 0.2),
    "MASKED.view": (None, 0.8, 0.8, 0.8, 0.2, 0.2, 0.5, 0.0),
}


@pytest.mark.parametrize("name", TABLE)
def test_numbers(name):
    outer, _, inner = name.partition(".")
    view = getattr(views, outer)
    fields = asdict(getattr(view, inner) if inner else view)
    assert tuple(fields[c] for c in COLUMNS) == TABLE[name]
    assert fields["flip"] == 0.5
    assert fields["jitter"] == 0.8
    assert fields["sigma"] == (0.1, 2.0)
    assert fields["ratio"] == (3 / 4, 4 / 3)
    assert fields["size"] is None
    assert views.MASKED.ratio == 0.75
    assert views.View(crop=(0.08, 1.0), flip=0.5) == views.RECONSTRUCTION


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
def test_every_preset_takes_every_image(batch_of, name, channels, dtype):
    images = torch.rand(8, channels, 28, 28, generator=torch.Generator().manual_seed(0))
    images = (images * 255).to(dtype) if dtype == torch.uint8 else images.to(dtype)
    view = getattr(views, name)
    assert isinstance(view, views.AnyView)
    first, second = (view(batch_of(images), stream) for stream in (0, 1))
    assert first.shape == images.shape
    assert first.dtype == (torch.float32 if dtype == torch.uint8 else dtype)
    assert first.min() >= 0
    assert first.max() <= 1
    assert ((first != second).flatten(1).any(dim=1)).all()


def test_gray_images_get_jitter_of_intensity(batch_of):
    batch = batch_of(torch.full((64, 1, 28, 28), 0.5))
    levels = views.SIMCLR(batch, 0).mean(dim=(1, 2, 3))
    assert levels.std() > 0.1
    assert 0.1 < (levels == 0.5).double().mean() < 0.35  # jitter's probability is 0.8
