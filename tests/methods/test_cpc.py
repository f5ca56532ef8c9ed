from math import log

import pytest
import torch

from sanslabel import encoders
from sanslabel.batch import Clock, Facts
from sanslabel.encoders.patches import patches, standardized
from sanslabel.engine import optimize, players_of
from sanslabel.errors import BadInput
from sanslabel.losses import predictive_coding
from sanslabel.methods.cpc import CPC
from sanslabel.views import View

METHOD = CPC(hidden=8, blocks=2, view=View())


def networks(method: CPC = METHOD, side: int = 16, name: str = "conv", **options):
    torch.manual_seed(0)
    encoder = encoders.build(name, channels=1, image_size=side, **options)
    return method.networks(encoder, Facts.of_images(64, 1, side, side)).train()


def enlarged(batch):
    """Digits of 16x16 pixels, which have 7x7 patches."""
    images = batch.images().pixels.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    return batch.with_pixels(images).map(lambda tensor: tensor[:12])


@pytest.mark.parametrize(
    ("side", "name", "expected", "rows"),
    [
        (256, "resnet18", (64, 32), 7),
        (224, "resnet18", (56, 28), 7),
        (64, "conv", (16, 8), 7),
        (32, "conv", (8, 4), 7),
        (28, "conv", (8, 4), 6),
        (8, "conv", (4, 2), 3),
        (28, "vit_micro", (8, 4), 6),
        (224, "vit_tiny", (64, 32), 6),
    ],
)
def test_patches_overlap_by_half_and_are_a_quarter_of_the_image(side, name, expected, rows):
    net = networks(side=side, name=name)
    assert net.encoder.patches == expected
    assert (side - expected[0]) // expected[1] + 1 == rows
    assert len(net.predictors) == min(5, rows - 1) - 1, "2 rows below to the last of 5"


def test_images_without_a_row_far_enough_below_are_refused():
    with pytest.raises(BadInput, match="3 rows of patches of 4 pixels are too few to predict 3 rows below"):
        networks(CPC(nearest=3), side=8)


@pytest.mark.parametrize(("negatives", "candidates"), [("both", 12 * 49), ("same", 49), ("other", 11 * 49 + 1)])
def test_it_starts_at_ln_of_the_candidates(first_batches, negatives, candidates):
    (_, batch), *_ = first_batches()
    method = CPC(hidden=8, blocks=2, view=View(), negatives=negatives)
    found = next(method.step(networks(method), enlarged(batch), None))
    assert found.loss.item() == pytest.approx(log(candidates), rel=1e-6)
    assert found.trivial == pytest.approx(log(candidates))


def test_the_context_of_a_place_hears_nothing_of_the_rows_below():
    net = networks()
    grid = torch.randn(2, 256, 7, 7)
    before = net.context(grid)
    for row in range(1, 7):
        changed = grid.clone()
        changed[:, :, row:] += torch.randn(2, 256, 7 - row, 7)
        after = net.context(changed)
        assert torch.equal(before[:, :, :row], after[:, :, :row])
        assert not torch.allclose(before[:, :, row], after[:, :, row])


def test_what_is_predicted_lies_so_many_rows_below(first_batches, monkeypatch):
    """Against the loop over steps, rows and columns."""
    (_, batch), *_ = first_batches()
    batch = enlarged(batch)
    seen = {}

    def spy(predicted, targets, positive, negatives):
        seen.update(predicted=predicted, targets=targets, positive=positive)
        return predictive_coding(predicted, targets, positive, negatives)

    monkeypatch.setattr("sanslabel.methods.cpc.predictive_coding", spy)
    net = networks()
    with torch.no_grad():
        for predictor in net.predictors:
            predictor.weight.normal_()
    next(METHOD.step(net, batch, None))
    parts = standardized(patches(batch.images().pixels / 255, 4, 2))
    z = net.norm(net.encoder(parts.flatten(0, 1))).view(12, 7, 7, 256)
    torch.testing.assert_close(seen["targets"].view(z.shape), z, atol=1e-4, rtol=1e-3)
    context = net.context(z.permute(0, 3, 1, 2))
    place = 0
    for k in range(2, 6):
        for i in range(7 - k):
            for j in range(7):
                expected = context[:, :, i, j] @ net.predictors[k - 2].weight.T
                torch.testing.assert_close(seen["predicted"][:, place], expected, atol=1e-2, rtol=1e-3)
                assert seen["positive"][place] == (i + k) * 7 + j
                place += 1
    assert place == len(seen["positive"]) == seen["predicted"].shape[1]


def test_the_recipe_has_a_constant_learning_rate_and_sub_crops():
    assert {CPC.recipe.lr_factor(Clock(0, 0, step, 100, 10)) for step in range(100)} == {1.0}
    assert round(CPC.under(CPC.recipe).subcrop * 64) == 60
    assert CPC.under(CPC.small).subcrop == 1


def test_it_learns_what_lies_below(first_batches):
    """On a handful of images, it finds patches among all."""
    method = CPC(**{**CPC.small.hyperparameters, "hidden": 32}).sized(8)
    net = networks(method, side=8)
    players = players_of(net, CPC.small, 32)
    records = list(optimize(method, net, players, first_batches(epochs=20)))
    last = records[-1].objectives[0]
    assert last.loss < 0.7 * last.trivial
    assert last.terms["accuracy"] > 0.1
    assert 0 < last.terms["share_of_tenth"] <= 1
