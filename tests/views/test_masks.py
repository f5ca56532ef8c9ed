import math
from dataclasses import replace

import pytest
import torch

from sanslabel.errors import BadInput
from sanslabel.views import BYOL, MASKED, SIMCLR, SWAV, Masked, MultiCrop, View, kept_patches, other_patches, visible

KEYS = torch.arange(20_000)


@pytest.mark.parametrize(("patches", "ratio"), [(49, 0.75), (64, 0.75), (196, 0.75), (10, 0.5), (7, 0.0), (4, 0.74)])
def test_exactly_so_many_patches_are_kept(patches, ratio):
    keep = kept_patches(KEYS[:100], patches, ratio, 0)
    assert keep.shape == (100, int(patches * (1 - ratio)))
    assert keep.dtype == torch.int64
    assert (keep.diff(dim=1) > 0).all()
    assert keep.min() >= 0
    assert keep.max() < patches


def test_every_patch_and_every_pair_is_kept_equally_often():
    keep = kept_patches(KEYS, 16, 0.75, 3)  # 4 of 16
    chosen = torch.zeros(len(KEYS), 16).scatter_(1, keep, 1.0)
    joint = chosen.T @ chosen / len(KEYS)
    spread = 4 / math.sqrt(len(KEYS))
    assert (joint.diagonal() - 4 / 16).abs().max() < spread * math.sqrt(0.25 * 0.75)
    pairs = joint[~torch.eye(16, dtype=torch.bool)]
    assert (pairs - 4 / 16 * 3 / 15).abs().max() < spread * math.sqrt(0.05 * 0.95)


def test_masks_belong_to_key_and_stream():
    assert torch.equal(kept_patches(KEYS, 49, 0.75, 1)[[5, 900]], kept_patches(KEYS[[5, 900]], 49, 0.75, 1))
    assert not torch.equal(kept_patches(KEYS, 49, 0.75, 1), kept_patches(KEYS, 49, 0.75, 2))


def test_masks_are_unrelated_to_the_numbers_of_the_view(batch_of):
    batch = batch_of(torch.zeros((), dtype=torch.uint8).expand(20_000, 1, 8, 8))
    chosen = torch.zeros(20_000, 16).scatter_(1, kept_patches(batch.key, 16, 0.75, 0), 1.0)
    mirrored = View(flip=0.5).draw(batch, 0).mirrored.float()
    assert torch.corrcoef(torch.cat([mirrored[None], chosen.T]))[0, 1:].abs().max() < 0.03


def test_the_others_are_those_that_are_not_kept():
    keep = kept_patches(KEYS[:100], 49, 0.75, 0)
    rest = other_patches(keep, 49)
    assert rest.shape == (100, 37)
    assert (rest.diff(dim=1) > 0).all()
    assert torch.cat([keep, rest], dim=1).sort(dim=1).values.tolist() == [list(range(49))] * 100
    assert torch.equal(other_patches(rest, 49), keep)
    shuffled = keep[:, torch.randperm(12, generator=torch.Generator().manual_seed(0))]
    assert torch.equal(other_patches(shuffled, 49), rest)


def test_visible_patches_stay_where_they_are():
    images = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    shown = visible(images, torch.tensor([[0, 5], [8, 2]]), 2)
    assert torch.equal(shown[0, :, :2, :2], images[0, :, :2, :2])
    assert torch.equal(shown[0, :, 2:4, 4:], images[0, :, 2:4, 4:])
    assert torch.equal(shown[1, :, 4:, 4:], images[1, :, 4:, 4:])
    assert (shown[1, :, 4:, :4] == shown[1, :, 0, 0]).all()
    assert (shown == images).sum() == 16


@pytest.mark.parametrize("ratio", [1.0, -0.1, 0.95])
def test_a_mask_that_leaves_nothing_is_refused(ratio):
    with pytest.raises(BadInput, match=r"of 16 patches"):
        kept_patches(KEYS[:2], 16, ratio, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 3])
def test_masked_patches_take_the_mean_and_the_others_stay(batch_of, channels, dtype):
    batch = batch_of(torch.rand(6, channels, 12, 12, generator=torch.Generator().manual_seed(0)).to(dtype))
    masked = Masked(view=View(flip=0.5), patch=3, ratio=0.75)
    ours, plain, keep = masked(batch, 1), masked.view(batch, 1), kept_patches(batch.key, 16, 0.75, 1)
    assert ours.dtype == dtype
    for i in range(6):
        for patch in range(16):
            down, along = (slice(3 * k, 3 * k + 3) for k in divmod(patch, 4))
            there = ours[i, :, down, along]
            if patch in keep[i]:
                assert torch.equal(there, plain[i, :, down, along])
            else:
                mean = plain[i].float().mean(dim=(1, 2))[:, None, None].expand(-1, 3, 3)
                rounding = 1e-6 if dtype == torch.float32 else 2**-8  # of the sum, and again of the mean
                assert torch.allclose(there.float(), mean, atol=rounding)


def test_the_size_can_be_given_from_outside_and_must_hold_whole_patches(batch_of):
    batch = batch_of(torch.rand(2, 1, 30, 30))
    assert replace(MASKED, size=28)(batch, 0).shape == (2, 1, 28, 28)
    with pytest.raises(BadInput, match="Patches of 4 pixels do not fill a view of 30"):
        MASKED(batch, 0)
    with pytest.raises(BadInput, match="patch is 0"):
        Masked(view=View(), patch=0)


def test_every_view_has_a_masked_form():
    expected = replace(MASKED, patch=7)
    for view in (SIMCLR, BYOL, MASKED):
        assert view.masked(7) == expected
    assert SWAV.masked(7) == MultiCrop(global_crop=expected, local_crops=0)
    with pytest.raises(BadInput, match="patch is 0"):
        SIMCLR.masked(0)
