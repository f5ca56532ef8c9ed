from dataclasses import replace

import pytest
import torch
from torch import nn

from sanslabel import encoders, views
from sanslabel.views import MASKED, SIMCLR, EncoderInput, concatenate, forward_by_size

MASK = replace(MASKED, patch=2)


@pytest.fixture
def batch(batch_of):
    return batch_of(torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)))


def test_a_crop_is_the_images_alone(batch):
    images, keep, patch = SIMCLR.input(batch, 1)
    assert torch.equal(images, SIMCLR(batch, 1))
    assert keep is None
    assert patch is None


def test_a_masked_view_comes_with_the_patches_that_are_left(batch):
    images, keep, patch = MASK.input(batch, 1)
    assert torch.equal(images, MASK(batch, 1))
    assert torch.equal(keep, views.kept_patches(batch.key, 16, 0.75, 1))
    assert patch == 2


def test_a_transformer_drops_what_is_masked_and_a_convnet_reads_what_fills_it(batch):
    view = MASK.input(batch, 0)
    refilled = EncoderInput(
        view.images.where(view.images != view.images[:, :, :1, :1], view.images), view.keep, view.patch
    )
    hidden = torch.ones(6, 16).scatter_(1, view.keep, 0.0).view(6, 1, 4, 4).repeat_interleave(2, 2)
    refilled = refilled._replace(images=view.images + 0.5 * hidden.repeat_interleave(2, 3))
    for name, same in (("vit_micro", True), ("conv", False)):
        encoder = encoders.build(name, channels=1, image_size=8).eval()
        with torch.no_grad():
            assert torch.equal(encoder(*view), encoder(*refilled)) == same


def test_together_is_one_batch_after_the_other(batch):
    a, b = MASK.input(batch, 0), MASK.input(batch, 1)
    both = concatenate(a, b)
    assert torch.equal(both.images, torch.cat([a.images, b.images]))
    assert torch.equal(both.keep, torch.cat([a.keep, b.keep]))
    assert both.patch == 2
    assert concatenate(SIMCLR.input(batch, 0), SIMCLR.input(batch, 1)).keep is None


def test_crops_of_one_size_go_through_in_one_pass_and_come_back_in_order(batch):
    crops = views.MultiCrop(global_crop=SIMCLR, local_crops=3, size=8, local_size=4).inputs(batch)
    passes = []

    def network(images, keep, patch):
        passes.append(tuple(images.shape))
        return images.mean(dim=(2, 3))

    outputs = forward_by_size(network, crops)
    assert passes == [(12, 1, 8, 8), (18, 1, 4, 4)]
    assert len(outputs) == 5
    for z, crop in zip(outputs, crops, strict=True):
        assert torch.equal(z, crop.images.mean(dim=(2, 3)))


def test_batch_norm_sees_each_size_by_itself(batch):
    crops = views.MultiCrop(global_crop=SIMCLR, local_crops=1, size=8, local_size=4).inputs(batch)
    norm = nn.BatchNorm2d(1)
    large, _, small = forward_by_size(lambda images, *_: norm(images).flatten(1), crops)
    assert norm.num_batches_tracked == 2
    assert small.mean().item() == pytest.approx(0, abs=1e-5)
    assert large.mean().item() != pytest.approx(0, abs=1e-5)  # but over both large ones together
