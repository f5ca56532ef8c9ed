"""The terms that a method logs, weighed as it weighs them, are its loss."""

from dataclasses import replace

import pytest
import torch

from sanslabel import encoders, methods
from sanslabel.batch import Clock, Facts

LATER = Clock(0, 1, 2, 10, 2)
"""a step of the second epoch, when memories are filled"""
SUMS = {
    "autoencoder": lambda m, t: t["error"] + m.sparsity * t["cost"],
    "barlow_twins": lambda m, t: t["invariance"] + m.redundancy * t["redundancy"],
    "data2vec": lambda m, t: t["distance"] + m.variance * (t["variance"] + t["covariance"] / 50),
    "dino": lambda m, t: t["teacher_entropy"] + t["kl"],
    "ijepa": lambda m, t: t["distance"] + m.variance * (t["variance"] + t["covariance"] / 50),
    "lejepa": lambda m, t: (1 - m.regularization) * t["invariance"] + m.regularization * t["sigreg"],
    "pirl": lambda m, t: m.weight * t["transformed_nll"] + (1 - m.weight) * t["image_nll"],
    "vae": lambda m, t: t["nll"] + m.beta * t["kl"],
    "vicreg": lambda m, t: m.invariance * t["invariance"] + m.variance * t["variance"] + m.covariance * t["covariance"],
}
CHANGES = {"autoencoder": {"sparsity": 0.3}, "pirl": {"weight": 0.3}, "vae": {"beta": 2.0}}


@pytest.mark.parametrize("name", SUMS)
def test_weighed_terms_are_the_loss(name, first_batches):
    (_, batch), *_ = first_batches()
    chosen = methods.method_class(name)
    method = replace(chosen.under(chosen.small), **CHANGES.get(name, {})).sized(8)
    torch.manual_seed(0)
    encoder = encoders.build(**encoders.encoder_options(chosen.small.encoder), channels=1, image_size=8)
    net = method.networks(encoder, Facts.of_images(64, 1, 8, 8, 0)).train()
    (objective,) = method.step(net, batch, LATER)
    torch.testing.assert_close(SUMS[name](method, objective.terms), objective.loss, atol=1e-5, rtol=1e-5)


def test_the_terms_of_the_players_of_ebgan_are_their_losses(first_batches):
    (_, batch), *_ = first_batches()
    chosen = methods.method_class("ebgan")
    method = chosen.under(chosen.small).sized(8)
    torch.manual_seed(0)
    encoder = encoders.build("dcgan", channels=1, image_size=8, filters=8)
    net = method.networks(encoder, Facts.of_images(64, 1, 8, 8, 0)).train()
    critic, generator = method.step(net, batch, LATER)
    torch.testing.assert_close(
        generator.terms["energy"] + method.pull_away * generator.terms["pull_away"], generator.loss
    )
    fake, data = critic.generated
    assert fake.shape == data.shape == (8, 1, 8, 8)
    assert not torch.equal(fake, data)
