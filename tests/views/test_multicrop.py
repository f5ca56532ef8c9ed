from dataclasses import replace

import pytest
import torch

from sanslabel import views
from sanslabel.errors import BadInput

CROPS = views.MultiCrop(global_crop=views.SIMCLR, local_crops=3)


@pytest.mark.parametrize(("size", "local"), [(8, 8), (28, 12), (32, 12), (64, 24), (96, 40), (224, 96)])
def test_local_crops_are_three_sevenths_in_whole_patches(batch_of, size, local):
    crops = CROPS.inputs(batch_of(torch.zeros(1, 1, size, size, dtype=torch.uint8)))
    assert [crop.images.shape[-1] for crop in crops] == [size] * 2 + [local] * 3
    patch = 16 if size >= 112 else 8 if size >= 56 else 4  # of the transformers at that size
    assert local % patch == 0


def test_all_crops_differ_and_a_sample_s_are_its_own(batch_of):
    batch = batch_of(torch.rand(4, 3, 16, 16))
    crops = CROPS.inputs(batch)
    assert len({crop.images.sum().item() for crop in crops}) == 5
    alone = CROPS.inputs(batch.map(lambda tensor: tensor[2:3]))
    for one, crop in zip(alone, crops, strict=True):
        torch.testing.assert_close(one.images, crop.images[2:3])


def test_a_size_that_is_given_holds_and_a_negative_count_is_refused(batch_of):
    batch = batch_of(torch.rand(2, 1, 16, 16))
    crops = views.MultiCrop(global_crop=views.SIMCLR, local_crops=1, size=12, local_size=9).inputs(batch)
    assert [crop.images.shape[-1] for crop in crops] == [12, 12, 9]
    with pytest.raises(BadInput, match="local_crops"):
        views.MultiCrop(global_crop=views.SIMCLR, local_crops=-1)


def test_global_crops_are_those_of_streams_0_and_1_and_local_ones_have_streams_of_their_own(batch_of):
    batch = batch_of(torch.rand(4, 1, 16, 16))
    crops = CROPS.inputs(batch)
    for stream, crop in enumerate(crops[:2]):
        assert torch.equal(crop.images, replace(views.SIMCLR, size=16)(batch, stream))
    for stream, crop in enumerate(crops[2:], start=2):
        assert torch.equal(crop.images, replace(views.SIMCLR, size=8)(batch, stream))


def test_global_crops_may_be_a_pair_or_masked(batch_of):
    batch = batch_of(torch.rand(4, 3, 16, 16))
    first, second, *_ = replace(CROPS, global_crop=views.BYOL).inputs(batch)
    assert torch.equal(first.images, replace(views.BYOL.first, size=16)(batch, 0))
    assert torch.equal(second.images, replace(views.BYOL.second, size=16)(batch, 1))
    masked, _, local, *_ = replace(CROPS, global_crop=views.MASKED).inputs(batch)
    assert masked.keep.shape == (4, 4)
    assert local.keep is None


def test_the_crops_of_swav():
    assert (views.SWAV.global_crop.crop, views.SWAV.local_crop.crop) == ((0.14, 1.0), (0.05, 0.14))
    assert views.SWAV.local_crops == 6
    assert views.SWAV.global_crop == replace(views.SIMCLR, crop=(0.14, 1.0))


def test_the_size_of_a_local_crop_is_its_own_where_it_has_one(batch_of):
    crops = views.MultiCrop(global_crop=views.SIMCLR, local_crop=replace(views.SIMCLR, size=20), local_crops=1)
    assert crops.inputs(batch_of(torch.rand(3, 1, 32, 32)))[-1].images.shape == (3, 1, 20, 20)
