from math import log
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sanslabel import encoders
from sanslabel.batch import Clock, Facts
from sanslabel.encoders.patches import Patches, standardized
from sanslabel.methods.jigsaw import Jigsaw
from sanslabel.optimizers import SGD
from sanslabel.views import permutations, tiles


class Pixels(nn.Flatten):
    """Says of a tile its pixels."""

    patches = Patches(2, 2)


def small(**numbers) -> Jigsaw:
    return Jigsaw(**{**Jigsaw.small.hyperparameters, "width": 16, "hidden": 32, **numbers})


def networks(method: Jigsaw, side: int = 8, name: str = "conv"):
    torch.manual_seed(0)
    encoder = encoders.build(name, channels=1, image_size=side)
    return method.sized(side).networks(encoder, Facts.of_images(64, 1, side, side)).train()


def told(method: Jigsaw, batch, logits):
    """The objective of a network whose tiles are their own embeddings; `logits` is of the shown ones, side by side."""
    net = SimpleNamespace(
        encoder=Pixels(), head=nn.Identity(), classifier=logits, permutations=permutations(method.permutations)
    )
    return next(method.sized(8).step(net, batch, None))


def test_uniform_logits_cost_ln_of_the_permutations(first_batches):
    (_, batch), *_ = first_batches()
    for count in (10, 1000):
        found = told(small(permutations=count), batch, lambda shown, k=count: torch.zeros(len(shown), k))
        assert found.loss.item() == pytest.approx(log(count), rel=1e-6)
        assert found.trivial == pytest.approx(log(count))
    assert log(1000) == pytest.approx(6.907755, abs=1e-6)


def test_who_puts_the_tiles_back_is_right(first_batches):
    """The inverse of the labeled permutation gives the image's tiles, in rows, for every image and each of its
    shuffles."""
    (_, batch), *_ = first_batches()
    method = small(permutations=20, shuffles=3)
    plain = batch.images().pixels / 255
    mirrored = [standardized(tiles(x, batch.key, 2, 0)).flatten(2) for x in (plain, plain.flip(3))]  # (N, 9, 4) each
    inverse = permutations(20).argsort(dim=1)

    def logits(shown):
        parts = shown.view(-1, 9, 4)
        back = parts[:, inverse]  # (3N, 20, 9, 4)
        errors = [(back - t.repeat_interleave(3, dim=0)[:, None]).square().sum(dim=(2, 3)) for t in mirrored]
        return -1e4 * torch.minimum(*errors)

    found = told(method, batch, logits)
    assert found.loss.isfinite()
    assert found.terms["accuracy"] > 0.95, "all but images with tiles alike"


def test_draws_belong_to_the_sample_and_use_all_permutations(first_batches):
    (_, batch), *_ = first_batches()
    shown = []
    for part in (batch, batch.map(lambda tensor: tensor[8:16])):
        told(small(), part, lambda x: shown.append(x) or torch.zeros(len(x), 100))
    assert torch.equal(shown[0][8 * 4 : 16 * 4], shown[1])
    assert len(shown[0]) == 4 * 32


def test_the_permutations_are_part_of_the_state():
    net = networks(small(permutations=50))
    assert torch.equal(net.state_dict()["permutations"], permutations(50))


@pytest.mark.parametrize(
    ("side", "name", "expected"),
    [(8, "conv", (2, 2)), (28, "conv", (8, 9)), (28, "vit_micro", (8, 9)), (64, "resnet18", (16, 21))],
)
def test_the_encoder_reads_tiles_from_then_on(side, name, expected):
    net = networks(small(permutations=5), side, name)
    assert net.encoder.patches == expected
    assert net.encoder.config["patches"] == list(expected)
    size, stride = expected
    assert size + 2 * stride <= side, "three of them in a row"


def test_the_tile_can_be_chosen():
    assert networks(small(permutations=5, tile=6), 28).encoder.patches == (6, 9)


def test_a_tile_is_embedded_alike_wherever_it_is_shown(first_batches):
    """Embeddings are shuffled in place of tiles: the same as to encode the shuffled ones."""
    (_, batch), *_ = first_batches()
    net = networks(small(permutations=5)).eval()
    parts = standardized(tiles(batch.images().pixels / 255, batch.key, 2, 0))
    order = permutations(32)
    rows = torch.arange(32)[:, None]
    before = net.head(net.encoder(parts[rows, order].flatten(0, 1))).unflatten(0, (-1, 9))
    after = net.head(net.encoder(parts.flatten(0, 1))).unflatten(0, (-1, 9))[rows, order]
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-4)


def test_the_recipe_is_the_references(first_batches):
    """Nearly whole squares anywhere along the longer side, a warm-up from a quarter, decay of biases but not norms."""
    (_, batch), *_ = first_batches()
    recipe = Jigsaw.recipe
    view = Jigsaw.under(recipe).view
    boxes = view.draw(batch.with_pixels(torch.zeros(32, 1, 256, 400, dtype=torch.uint8)), 0).boxes
    assert (boxes[:, 2:] == 255).all()
    assert boxes[:, 1].min() < 40
    assert boxes[:, 1].max() > 100
    assert [recipe.lr_factor(Clock(0, 0, step, 1050, 10)) for step in (0, 49, 50)] == pytest.approx([0.265, 1, 1])
    net = networks(small(permutations=5))
    groups = recipe.parameter_groups(net, SGD(lr=0.1, weight_decay=1e-4))
    decay = {p: group["base_decay"] for group in groups for p in group["params"]}
    norms = {p for m in net.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for p in m.parameters()}
    assert {p for p in net.parameters() if decay[p] == 0} == norms
