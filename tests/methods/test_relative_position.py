from dataclasses import replace
from math import log
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sanslabel import encoders
from sanslabel.batch import Batch, Facts
from sanslabel.encoders.build import encoder_options
from sanslabel.encoders.patches import Patches
from sanslabel.methods.relative_position import RelativePosition
from sanslabel.optimizers import SGD
from sanslabel.views import View

METHOD = RelativePosition(width=16, hidden=32, dropout=0.0, view=View())


class Pixels(nn.Flatten):
    """Says of a patch its pixels."""

    patches = Patches(2, 2)


def told(batch, logits):
    """The objective of a network whose patches are their own embeddings; `logits` is of pairs, side by side."""
    net = SimpleNamespace(encoder=Pixels(), head=nn.Identity(), classifier=logits)
    return next(METHOD.sized(8).step(net, batch, None))


def test_uniform_logits_cost_ln_8(first_batches):
    (_, batch), *_ = first_batches()
    found = told(batch, lambda pairs: torch.zeros(len(pairs), 8))
    assert found.loss.item() == pytest.approx(log(8), rel=1e-6) == pytest.approx(2.079442, abs=1e-6)
    assert found.trivial == log(8)
    assert found.terms["accuracy"] == 0.125, "every image shows all directions once"


def test_directions_are_counted_row_by_row_and_the_opposite_of_k_is_7_minus_k(first_batches, monkeypatch):
    """In an image whose pixels know their cell, the offset from first to second patch gives the direction away."""
    (_, batch), *_ = first_batches()
    monkeypatch.setattr("sanslabel.methods.relative_position.standardized", lambda x: x)
    cell = (torch.arange(8) // 2).float()
    image = cell[:, None] * 4 + cell
    batch = batch.with_pixels((image / 16).expand(32, 1, 8, 8))
    offsets = torch.tensor([(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if (r, c) != (0, 0)])
    assert torch.equal(offsets.flip(0), -offsets), "swapping the roles maps k to 7 - k"

    def logits(pairs):
        first, second = (16 * pairs).round().long().view(-1, 2, 4)[:, :, 0].unbind(1)  # the cell of a pixel of each
        offset = torch.stack([second // 4 - first // 4, second % 4 - first % 4], dim=1)
        return 100.0 * (offset[:, None] == offsets).all(dim=2)

    assert told(batch, logits).terms["accuracy"] == 1
    swapped = told(batch, lambda pairs: logits(torch.cat(pairs.chunk(2, dim=1)[::-1], dim=1)).flip(1))
    assert swapped.terms["accuracy"] == 1


def test_the_center_comes_first_in_all_pairs(first_batches):
    (_, batch), *_ = first_batches()
    shown = []
    told(batch, lambda pairs: shown.append(pairs) or torch.zeros(len(pairs), 8))
    first, second = shown[0].view(32, 8, 2, 4).unbind(2)
    assert (first == first[:, :1]).all()
    assert (second != first).any(dim=2).float().mean() > 0.8


def test_one_patch_of_noise_tells_nothing_of_its_direction():
    """The best threshold on what a neighbor shows is no better than chance."""
    noise = torch.rand(4000, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    batch = Batch.of_images(noise, *torch.arange(4000).expand(3, -1))
    shown = []
    told(batch, lambda pairs: shown.append(pairs) or torch.zeros(len(pairs), 8))
    second = shown[0].view(4000, 8, 2, 4)[:, :, 1]
    assert (second.mean(dim=0) - second.mean()).abs().max() < 4.5 * second.std() / 4000**0.5


def test_brightness_gives_nothing_away(first_batches):
    (_, batch), *_ = first_batches()
    shown = []
    image = torch.rand(32, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.5
    cells = image + (torch.arange(8) // 2 / 8)[:, None]
    for images in (image, cells):
        told(batch.with_pixels(images), lambda pairs: shown.append(pairs) or torch.zeros(len(pairs), 8))
    torch.testing.assert_close(shown[0], shown[1], atol=1e-4, rtol=0)


def test_the_encoder_reads_patches_from_then_on():
    encoder = encoders.build("conv", channels=1, image_size=28)
    net = METHOD.networks(encoder, Facts.of_images(64, 1, 28, 28))
    assert net.encoder.patches == (8, 9)
    kinds = [type(m).__name__ for m in net.classifier]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear"]
    assert net.classifier[0].in_features == 2 * 16


def test_the_recipe_has_the_references_network_start_and_decay():
    recipe = RelativePosition.recipe
    method = replace(RelativePosition.under(recipe), width=40, hidden=2000)
    net = method.networks(encoders.build("dcgan", channels=1, image_size=28, filters=1), Facts.of_images(64, 1, 28, 28))
    assert encoder_options(recipe.encoder)["widening"] == 2
    for layer in (net.classifier[0], net.classifier[4]):
        assert layer.weight.std().item() == pytest.approx(0.88 * 0.005, rel=0.05), "normal numbers up to two deviations"
        assert layer.weight.abs().max() <= 0.01
    assert net.classifier[4].bias.abs().max() == 0
    groups = recipe.parameter_groups(net, SGD(lr=0.1, weight_decay=1e-4))
    decay = {p: group["base_decay"] for group in groups for p in group["params"]}
    for name, p in net.named_parameters():
        kernel = 5e-4 if name.startswith("classifier") else 1e-4
        assert decay[p] == pytest.approx(kernel if p.ndim > 1 else 0), name
