"""The size at which photos are decoded, and the crops that are enlarged for lack of pixels."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import sanslabel
from bench.enlarged import SIDE, crops, decoded_sizes, enlarged, single_views
from sanslabel import methods, views
from sanslabel.errors import BadInput
from sanslabel.heartbeat import Heartbeat
from sanslabel.inputs import DECODE_FACTOR
from sanslabel.methods.simclr import SimCLR
from sanslabel.methods.swav import SwAV
from sanslabel.recipe import Recipe
from sanslabel.run_folder import RunFolder
from sanslabel.serialization import from_plain, to_plain
from sanslabel.sources import open_source
from sanslabel.sources.pictures import cache
from sanslabel.sources.pictures.images import ImagesFrom, with_decode_factor
from sanslabel.training import choice
from sanslabel.training.rehearsal import Excerpt

TINY = dict(
    encoder={"name": "dcgan", "filters": 8}, batch=8, epochs=1, image_size=16, precision="float32", cache="none"
)


@pytest.fixture
def photos(tmp_path):
    """Ten photos of 100 x 60 pixels."""
    draw = np.random.default_rng(0)
    for row in range(10):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (60, 100, 3), np.uint8)).save(tmp_path / "photos" / f"{row}.png")
    return tmp_path / "photos"


def by_hand(width: int, height: int, crop: tuple[float, float], side: int, draws: int = 4000) -> float:
    """The share of enlarged crops by torchvision's algorithm, one crop at a time."""
    draw, count = random.Random(0), 0
    for _ in range(draws):
        for _ in range(10):
            area = width * height * draw.uniform(*crop)
            ratio = math.exp(draw.uniform(math.log(3 / 4), math.log(4 / 3)))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                break
        count += w * h < side**2
    return count / draws


def test_crops_of_a_reduced_photo_are_enlarged_twice_as_often():
    """A photo of 500 x 375, as in ImageNet: of SimCLR's crops 72 % in place of 27 %, of SwAV's small ones 62 % in place
    of none. Of the areas that are drawn for SimCLR, 54 % and 20 % are that small. Large crops are drawn again if they
    do not fit, which leaves more small ones."""
    photo = [(500, 375)]
    (_, simclr), *_ = single_views(SimCLR().view, SIDE)
    local = dict(single_views(SwAV().view, SIDE))[2]
    reduced = decoded_sizes(photo, DECODE_FACTOR)
    assert reduced == [(341, 256)]
    shares = [enlarged(view, sizes) for view in (simclr, local) for sizes in (reduced, photo)]
    assert shares == pytest.approx([0.723, 0.275, 0.617, 0.0], abs=0.01)
    areas = [(224**2 / (w * h) - 0.08) / 0.92 for w, h in (*reduced, *photo)]
    assert areas == pytest.approx([0.54, 0.20], abs=0.005)
    assert shares[0] == pytest.approx(by_hand(341, 256, (0.08, 1), 224), abs=0.03)
    assert shares[1] == pytest.approx(by_hand(500, 375, (0.08, 1), 224), abs=0.03)


def drawn_by(name: str) -> list[tuple[int, views.View]]:
    """The streams and views of a method's paper recipe; none if it takes no crops."""
    method = methods.method_class(name)
    view = getattr(method.under(method.recipe), "view", None)
    if not isinstance(view, views.View | views.Pair | views.MultiCrop):
        return []
    single = single_views(view, SIDE)
    return single if any(v.crop is not None for _, v in single) else []


@pytest.mark.parametrize("name", [n for n in methods.names() if drawn_by(n)])
def test_no_side_of_a_crop_of_a_paper_s_recipe_lacks_pixels(name):
    method = methods.method_class(name)
    sizes = decoded_sizes([(3000, 3000), (4000, 3000), (3000, 4500)], method.recipe.decode_factor)
    for stream, view in drawn_by(name):
        assert crops(view, sizes, 3000, stream).min() >= view.size
    assert method.small.decode_factor == DECODE_FACTOR


def test_pictures_are_reduced_to_the_factor_of_the_training_side(photos):
    source = open_source(photos, image_size=16)
    assert isinstance(source, ImagesFrom)
    assert (source.side, source.decode(0).shape) == (18, (3, 18, 30))
    larger = with_decode_factor(source, 3.0)
    assert isinstance(larger, ImagesFrom)
    assert (larger.side, larger.decode(0).shape) == (48, (3, 48, 80))
    assert with_decode_factor(source, 16.0).decode(0).shape == (3, 60, 100)  # as stored
    assert (source.canvas_bytes, larger.canvas_bytes) == (3 * 18 * 30, 3 * 48 * 80)
    assert larger.whole_picture(0, 18).shape == source.whole_picture(0, 18).shape
    assert larger.subset(torch.arange(3)).side == 48
    arrays = open_source("digits")
    assert with_decode_factor(arrays, 3.0) is arrays


def test_caches_of_other_sizes_are_other_caches(photos, monkeypatch):
    monkeypatch.setattr(cache, "SETTLED", 0)
    source = open_source(photos, image_size=16)
    keys = {cache._key(with_decode_factor(source, factor), Heartbeat()) for factor in (DECODE_FACTOR, 2.0, 3.0)}
    assert len(keys) == 3


def test_an_excerpt_is_as_large_as_the_run_s_pictures(photos):
    excerpt = Excerpt.of(with_decode_factor(open_source(photos, image_size=24), 2.0))
    assert excerpt.signals["image"].pixels.shape[2:] == (48, 80)
    assert excerpt.at_size(16).signals["image"].pixels.shape[2:] == (32, 53)


def test_a_run_keeps_its_factor_and_states_the_memory(photos, capsys, tmp_path):
    run = sanslabel.train(photos, out=tmp_path / "run", decode_factor=3.0, **TINY)
    line = "pictures: decoded to 48 pixels on the shorter side, about 1 MiB for a batch (--decode-factor)"
    assert line in capsys.readouterr().err.splitlines()
    folder = RunFolder.open(run.path)
    assert folder.recipe().decode_factor == 3.0
    source = folder.training_source(sanslabel.run_folder.data_of_run(folder.known_plan))
    assert source.pictures.side == 48
    assert folder.source("train").pictures.side == 18  # evaluation reads pictures as before
    sanslabel.train(photos, out=tmp_path / "small", **TINY)
    assert "pictures: decoded" not in capsys.readouterr().err


def test_a_run_that_does_not_fit_may_decode_smaller(photos, monkeypatch, tmp_path):
    monkeypatch.setattr(choice, "free_memory", lambda: 1 << 20)
    with pytest.raises(BadInput, match=r"training takes about .*; lower .*`decode_factor`"):
        sanslabel.train(photos, out=tmp_path / "run", decode_factor=3.0, **TINY)
    assert not (tmp_path / "run").exists()


def test_recipes_of_earlier_versions_have_8_7():
    plain = to_plain(replace(SimCLR.recipe, hyperparameters={}))
    assert from_plain(Recipe, plain).decode_factor == 4.1
    del plain["decode_factor"]
    assert from_plain(Recipe, plain).decode_factor == DECODE_FACTOR


@pytest.mark.parametrize("factor", [0.5, 17.0])
def test_factors_that_cannot_be(photos, factor, tmp_path):
    with pytest.raises(BadInput, match=r"decode_factor=.*: must be from 1 to 16"):
        sanslabel.train(photos, out=tmp_path / "run", decode_factor=factor, **TINY)
