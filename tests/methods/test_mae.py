"""MAE's oracles, which need no training."""

from dataclasses import replace

import pytest
import torch

from sanslabel import encoders, views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.errors import BadInput
from sanslabel.methods.mae import MAE

CLOCK = Clock(seed=0, epoch=0, step=0, steps=10, steps_per_epoch=5)
PLAIN = replace(MAE.under(MAE.small), view=views.View())


def net_of(method, channels=1):
    torch.manual_seed(0)
    encoder = encoders.build("vit_micro", channels=channels, image_size=8)
    return method.networks(encoder, Facts.of_images(384, channels, 8, 8, 0))


def batch_of(count=6, channels=1, scale=1.0):
    images = scale * torch.rand(count, channels, 8, 8, generator=torch.Generator().manual_seed(1))
    index = torch.arange(count)
    return Batch.of_images(images, index, index * 2654435761 % 2**32, index)


def losses_at(net, prediction):
    """The decoder says this of every pixel."""
    torch.nn.init.zeros_(net.decoder.head.weight)
    torch.nn.init.constant_(net.decoder.head.bias, prediction)


@pytest.mark.parametrize("channels", [1, 3])
def test_predictions_of_0_cost_all_but_one_pixel(channels):
    net = net_of(PLAIN, channels)
    losses_at(net, 0.0)
    (objective,) = PLAIN.step(net, batch_of(channels=channels), CLOCK)
    pixels = 4 * channels
    assert objective.loss.item() == pytest.approx((pixels - 1) / pixels, abs=1e-4)
    assert objective.terms["explained"].item() == pytest.approx(0, abs=1e-6)


def test_what_masked_patches_show_reaches_the_loss_as_target_alone():
    net, batch = net_of(PLAIN), batch_of()
    keep = views.kept_patches(batch.key, 16, 0.75, 1)
    assert keep.shape == (6, 4)
    changed = batch.with_pixels(views.visible(batch.images().pixels, keep, 2))
    tokens, prediction, pixels, kept, masked = PLAIN.predict(net, batch.images().pixels, batch.key)
    other = PLAIN.predict(net, changed.images().pixels, batch.key)
    assert torch.equal(kept, keep)
    assert masked.shape == (6, 12)
    assert torch.equal(tokens, other[0])
    assert torch.equal(prediction, other[1])
    assert not torch.allclose(pixels, other[2])


def test_pixels_stand_where_they_are_predicted():
    net, images = net_of(PLAIN), batch_of().images().pixels
    *_, pixels, _, masked = PLAIN.predict(net, images, batch_of().key)
    for n in range(6):
        for m in range(12):
            row, column = divmod(int(masked[n, m]), 4)
            patch = images[n, 0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert torch.equal(pixels[n, m], patch.flatten())


@pytest.mark.parametrize("normalized", [True, False])
def test_reconstructions_are_images_again(normalized, monkeypatch):
    """A decoder that knew the targets would give the image back, whatever the targets were."""
    method = replace(PLAIN, normalized=normalized)
    net, images = net_of(method), batch_of().images().pixels
    predict = MAE.predict

    def knowing(self, net, images, key):
        tokens, _, pixels, keep, masked = predict(self, net, images, key)
        centered = (pixels - pixels.mean(2, keepdim=True)) / (pixels.var(2, keepdim=True) + 1e-6).sqrt()
        return tokens, centered if normalized else pixels, pixels, keep, masked

    monkeypatch.setattr(MAE, "predict", knowing)
    made = method.reconstruct(net, images, batch_of().key)["reconstruction"]
    torch.testing.assert_close(made, images, atol=1e-5, rtol=0)
    (objective,) = method.step(net, batch_of(), CLOCK)
    assert objective.loss.item() == pytest.approx(0, abs=1e-9)
    torch.testing.assert_close(objective.images["reconstruction"], images, atol=1e-5, rtol=0)


def test_reconstructions_keep_what_is_visible_and_are_the_same_each_time():
    net, images = net_of(PLAIN), batch_of().images().pixels
    losses_at(net, 0.0)
    key = torch.arange(6)
    again = PLAIN.reconstruct(net, images, key)["reconstruction"]
    keep = views.kept_patches(key, 16, 0.75, 1)
    torch.testing.assert_close(views.visible(again, keep, 2) == again, views.visible(images, keep, 2) == images)
    assert torch.equal(PLAIN.reconstruct(net, images, key)["reconstruction"], again)


def test_positions_stay_and_patches_are_the_representation():
    net = net_of(PLAIN)
    assert not net.encoder.pos_embed.requires_grad
    images = batch_of().images().pixels
    torch.testing.assert_close(net.encoder(images), net.encoder.tokens(images)[:, 1:].mean(dim=1))
    assert net.encoder.config["pool"] == "mean"


def test_convnets_and_masks_that_leave_nothing_are_refused():
    with pytest.raises(BadInput, match="MAE hides patches"):
        PLAIN.networks(encoders.build("conv", channels=1, image_size=8), Facts.of_images(384, 1, 8, 8, 0))
    with pytest.raises(BadInput, match="of 16 patches leaves none"):
        next(replace(PLAIN, ratio=0.99).step(net_of(PLAIN), batch_of(), CLOCK))
