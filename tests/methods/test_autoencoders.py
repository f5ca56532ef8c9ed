"""Autoencoder and DAE: oracles that need no training, and what a short one shows."""

from dataclasses import replace

import pytest
import torch

import sanslabel
from sanslabel import encoders
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.errors import BadInput
from sanslabel.generation.model import open_model
from sanslabel.losses import squared_error
from sanslabel.methods.abilities import Samples, require
from sanslabel.methods.autoencoder import Autoencoder
from sanslabel.methods.dae import DAE
from sanslabel.methods.method import Networks
from sanslabel.methods.vae import VAE
from sanslabel.randomness import permutation
from sanslabel.sources import Request, open_source
from sanslabel.training.planning import encoder_configs
from sanslabel.views import corrupted

FACTS = Facts.of_images(samples=64, channels=1, height=8, width=8, classes=0)
CLOCK = Clock(0, 0, 0, 10, 5)


def networks(method, name: str = "mlp", **options):
    torch.manual_seed(0)
    return method.networks(encoders.build(name, channels=1, image_size=8, **options), FACTS)


def batch_of(count: int = 16) -> Batch:
    index = torch.arange(count)
    images = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return Batch.of_images(images, index, index * 2654435761 % 2**32, index)


def by_hand(net, y):
    """The reconstruction in [-1, 1] of images in [-1, 1]."""
    return net.decoder(net.encoder((y + 1) / 2)).tanh()


@pytest.mark.parametrize("method", [Autoencoder(), DAE(amount=0.0), DAE(corruption="gaussian", amount=0.0)])
def test_without_corruption_the_loss_is_the_error_of_the_image_itself(method):
    net, batch = networks(method), batch_of()
    (objective,) = method.step(net, batch, CLOCK)
    y = 2 * batch.images().pixels - 1
    torch.testing.assert_close(objective.loss, (by_hand(net, y) - y).square().mean())
    torch.testing.assert_close(method.energy_of(net, batch.images().pixels).mean(), objective.loss)


@pytest.mark.parametrize("kind", ["mask", "gaussian", "dropout"])
def test_the_target_of_a_corrupted_image_is_the_clean_one(kind):
    method = DAE(corruption=kind, amount=0.4)
    net, batch = networks(method), batch_of()
    (objective,) = method.step(net, batch, CLOCK)
    y = 2 * batch.images().pixels - 1
    noisy = corrupted(y, batch.key, kind, 0.4, 1)
    assert not torch.allclose(noisy, y)
    torch.testing.assert_close(objective.loss, (by_hand(net, noisy) - y).square().mean())
    energies = method.energy_of(net, batch.images().pixels)
    torch.testing.assert_close(energies, squared_error(by_hand(net, y), y), msg="an energy is of the image as it is")


def test_corruption_is_of_the_sample_and_the_epoch():
    y = 2 * batch_of().images().pixels - 1
    for kind in ("mask", "gaussian", "dropout"):
        whole = corrupted(y, batch_of().key, kind, 0.4, 1)
        parts = [corrupted(y[i : i + 8], batch_of().key[i : i + 8], kind, 0.4, 1) for i in (0, 8)]
        assert torch.equal(whole, torch.cat(parts))
        assert not torch.equal(whole, corrupted(y, batch_of().key + 1, kind, 0.4, 1))


def test_what_corruptions_leave():
    y = torch.full((200, 3, 8, 8), 0.5)
    key = torch.arange(200)
    masked, dropped = (corrupted(y, key, kind, 0.25, 0) for kind in ("mask", "dropout"))
    assert set(masked.unique().tolist()) == {-1.0, 0.5}
    assert torch.equal(masked[:, 0], masked[:, 2]), "a pixel goes in all its colors"
    assert sorted(dropped.unique().tolist()) == pytest.approx([0.0, 0.5 / 0.75])
    assert (masked == -1).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert dropped.mean().item() == pytest.approx(0.5, abs=0.01), "the mean stays"
    with pytest.raises(BadInput, match="below 1"):
        corrupted(y, key, "mask", 1.0, 0)


def test_a_sparse_code_costs_its_mean_absolute_number():
    method = Autoencoder(sparsity=0.3)
    net, batch = networks(method), batch_of()
    (objective,) = method.step(net, batch, CLOCK)
    y = 2 * batch.images().pixels - 1
    expected = (by_hand(net, y) - y).square().mean() + 0.3 * net.encoder(batch.images().pixels).abs().mean()
    torch.testing.assert_close(objective.loss, expected)
    torch.testing.assert_close(method.energy_of(net, batch.images().pixels).mean(), expected)


def test_codes_are_the_encoders_own_or_a_layer_on_it():
    assert networks(Autoencoder()).encoder.width == 30
    assert networks(DAE()).encoder.width == 500
    assert networks(DAE(code=700)).encoder.width == 700, "over-complete: 64 pixels"
    assert networks(Autoencoder(code=5), "conv").encoder.width == 5


@pytest.mark.parametrize("name", ["mlp", "conv", "dcgan", "vit_micro"])
def test_every_encoder_has_a_decoder(name):
    method = replace(DAE(), filters=8)
    net, images = networks(method, name), batch_of().images().pixels
    made = method.reconstruct(net, images, torch.arange(16))
    assert list(made) == ["corrupted", "reconstruction"]
    assert all(part.shape == images.shape and part.min() >= 0 and part.max() <= 1 for part in made.values())
    torch.testing.assert_close(
        method.decode(net, method.encode(net, images)), (by_hand(net, 2 * images - 1) + 1) / 2, atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("method", "hidden", "scaling"),
    [
        (Autoencoder, [1000, 500, 250], None),  # pixels in [0, 1], as the paper's
        (DAE, [500], [[0.5], [0.5]]),  # pixels in [-1, 1], as the course's
        (VAE, [400], None),  # pixels in [0, 1], as PyTorch's example and the course
    ],
)
def test_the_paper_s_layers_read_the_paper_s_pixels(method, hidden, scaling):
    source = open_source("digits", "train")
    config = encoder_configs(method(), method.recipe.encoder, source, 8)["image"]
    assert (config["hidden"], config["scaling"]) == (hidden, scaling)
    small = encoder_configs(method(), method.small.encoder, source, 8)["image"]
    assert (small["hidden"], small["scaling"]) == ([500], [list(s) for s in source.standardization()])


def test_samples_are_functions_of_their_keys():
    method = DAE(chain=3)
    net = networks(method).eval()
    whole = method.sample(net, torch.arange(6))
    assert whole.shape == (6, 1, 8, 8)
    torch.testing.assert_close(whole[2:4], method.sample(net, torch.tensor([2, 3])))
    with pytest.raises(BadInput, match="Autoencoder cannot make new images; train one of dae, dcgan, ebgan, vae"):
        require(Autoencoder(), Samples)


def test_a_denoiser_points_back_to_the_data(trained_toy):
    """On a line of points, r(ŷ) - ŷ is σ² times the slope of the log density: it points at the line, and the energy
    grows with the distance from it."""
    method = DAE(corruption="gaussian", amount=0.2)
    net = trained_toy(method)
    off = torch.tensor([0.2, 0.3, -0.25, -0.2])
    points = torch.stack([torch.tensor([-0.4, 0.0, 0.2, 0.5]), off], dim=1)[..., None, None]
    with torch.no_grad():
        moved = by_hand(net, points)
        near, far = (
            method.energy_of(net, (torch.cat([points[:, :1], height * torch.ones(4, 1, 1, 1)], 1) + 1) / 2)
            for height in (0.0, 0.3)
        )
    assert (moved[:, 1].flatten().abs() < 0.5 * off.abs()).all()
    assert (far > near + 0.01).all()


def test_words_that_are_none_of_a_number_s():
    with pytest.raises(BadInput, match="choose one of mask, gaussian, dropout"):
        DAE(corruption="salt")
    with pytest.raises(BadInput, match="a deviation of 0 or more"):
        networks(DAE(corruption="gaussian", amount=-0.1))


def test_a_dae_refuses_two_images_laid_over_each_other(tmp_path):
    """The pixelwise maximum of two garments is none: its energy is above the mean of the two."""
    method = DAE(amount=0.1)
    run = sanslabel.train("fashion", method=method, epochs=45, out=tmp_path / "run")
    model = open_model(run.path)
    test = model.source()
    one, two = (test.load(Request(permutation(8, len(test))[:400])).images.pixels.float() / 255).chunk(2)

    def above(net: Networks) -> tuple[float, float]:
        with torch.no_grad():
            a, b, both = (method.energy_of(net, x) for x in (one, two, torch.maximum(one, two)))
        return (both > (a + b) / 2).float().mean().item(), (both > torch.maximum(a, b)).float().mean().item()

    of_mean, of_both = above(model.net)
    print(f"above the mean of the two: {of_mean:.1%}; above both: {of_both:.1%}")
    assert of_mean >= 0.9
    torch.manual_seed(0)
    encoder = encoders.build(**model.plan.encoder)
    untrained = method.networks(encoder, test.facts(28))
    assert above(untrained)[0] < 0.6, "before it has learned, it refuses nothing"
