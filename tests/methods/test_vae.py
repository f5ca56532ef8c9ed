from dataclasses import replace
from math import log

import pytest
import torch

from sanslabel import encoders
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.losses import bernoulli_nll, gaussian_kl, gaussian_nll, sampled_kl
from sanslabel.methods.vae import VAE
from sanslabel.randomness import normal

CLOCK = Clock(0, 0, 0, 10, 5)
METHOD = VAE(code=4)


def networks(method=METHOD, name="mlp", size=8):
    torch.manual_seed(0)
    return method.networks(encoders.build(name, channels=1, image_size=size), Facts.of_images(64, 1, size, size, 0))


def batch_of(count: int = 16, size: int = 8) -> Batch:
    index = torch.arange(count)
    images = torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(1))
    return Batch.of_images(images, index, index * 2654435761 % 2**32, index)


def says(net, mean: float, log_var: float, logit: float) -> None:
    """Networks that say the same of every image."""
    for layer, value in ((net.encoder.code, mean), (net.log_var, log_var), (net.decoder.layers[-2], logit)):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.constant_(layer.bias, value)


def test_at_the_prior_and_without_an_opinion_an_image_costs_ln_2_a_pixel():
    net = networks(size=28)
    says(net, 0.0, 0.0, 0.0)
    (objective,) = METHOD.step(net, batch_of(size=28), CLOCK)
    assert objective.loss.item() == pytest.approx(784 * log(2), rel=1e-6)
    assert objective.loss.item() == pytest.approx(543.43, abs=5e-3)
    assert objective.terms["kl"].item() == 0
    assert objective.terms["active_units"].item() == 0, "a posterior that has collapsed"


def test_the_code_costs_its_divergence_times_beta():
    net = networks()
    says(net, 1.0, log(4.0), 0.0)
    for beta in (0.0, 1.0, 4.0):
        (objective,) = replace(METHOD, beta=beta).step(net, batch_of(), CLOCK)
        kl = 4 * (0.5 + 0.806853)
        assert objective.terms["kl"].item() == pytest.approx(kl, rel=1e-5)
        assert objective.loss.item() == pytest.approx(64 * log(2) + beta * kl, rel=1e-5)
        assert objective.terms["active_units"].item() == 4
        torch.testing.assert_close(objective.terms["kl_by_dimension"], torch.full((4,), kl / 4))


@pytest.mark.parametrize("closed", [True, False])
def test_a_step_is_the_paper_s(closed):
    method = replace(METHOD, closed=closed, beta=0.7)
    net, batch = networks(method), batch_of()
    (objective,) = method.step(net, batch, CLOCK)
    h = net.encoder.trunk(batch.images().pixels)
    mean, log_var = net.encoder.code(h), net.log_var(h)
    z = mean + (log_var / 2).exp() * normal(batch.key, 4, 1)
    kl = gaussian_kl(mean, log_var) if closed else sampled_kl(mean, log_var, z)
    torch.testing.assert_close(objective.loss, (bernoulli_nll(net.decoder(z), batch.images().pixels) + 0.7 * kl).mean())


def test_the_noise_moves_the_code_by_half_epsilon_sigma_a_unit_of_log_variance():
    mean, log_var = (torch.randn(5, 3, dtype=torch.float64).requires_grad_() for _ in "mv")
    noise = normal(torch.arange(5), 3, 1).double()
    z = mean + (log_var / 2).exp() * noise
    to_mean, to_log_var = torch.autograd.grad(z.sum(), (mean, log_var))
    torch.testing.assert_close(to_mean, torch.ones_like(mean))
    torch.testing.assert_close(to_log_var, 0.5 * noise * (log_var.detach() / 2).exp())


def test_the_noise_is_of_the_sample_and_the_epoch():
    net, batch = networks().double(), batch_of()
    batch = batch.with_pixels(batch.images().pixels.double())
    losses = [next(METHOD.step(net, batch._replace(key=batch.key + i), CLOCK)).loss.item() for i in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_energies_have_no_noise():
    net, images = networks(), batch_of().images().pixels
    h = net.encoder.trunk(images)
    expected = bernoulli_nll(net.decoder(net.encoder(images)), images) + gaussian_kl(
        net.encoder(images), net.log_var(h)
    )
    for _ in "ab":
        torch.testing.assert_close(METHOD.energy_of(net, images), expected)


def test_gaussian_pixels():
    method = replace(METHOD, likelihood="gaussian", variance=0.1)
    net, batch = networks(method), batch_of()
    says(net, 0.0, 0.0, 0.5)
    (objective,) = method.step(net, batch, CLOCK)
    torch.testing.assert_close(
        objective.loss, gaussian_nll(torch.full_like(batch.images().pixels, 0.5), batch.images().pixels, 0.1).mean()
    )
    assert torch.equal(method.decode(net, torch.randn(3, 4)), torch.full((3, 1, 8, 8), 0.5))


def test_wild_log_variances_stay_finite():
    net = networks()
    says(net, 0.0, 1e4, 0.0)
    assert next(METHOD.step(net, batch_of(), CLOCK)).loss.isfinite()


@pytest.mark.parametrize("name", ["mlp", "conv", "vit_micro"])
def test_mean_and_trunk_are_exported_and_samples_come_from_the_prior(name):
    method = replace(METHOD, filters=8)
    net = networks(method, name).eval()
    exported = method.encoders(net)
    assert list(exported) == ["mean", "student"]
    assert exported["mean"].width == 4
    z = method.prior(net, torch.arange(4000))
    assert z.mean().abs() < 0.05
    assert z.std().item() == pytest.approx(1, abs=0.02), "the prior is normal, not uniform"
    torch.testing.assert_close(method.sample(net, torch.arange(5)), net.decoder(z[:5]).sigmoid())
    images = batch_of(4).images().pixels
    torch.testing.assert_close(method.encode(net, images), exported["mean"](images))
    assert torch.equal(
        method.reconstruct(net, images, torch.arange(4))["reconstruction"],
        method.decode(net, method.encode(net, images)),
    )
