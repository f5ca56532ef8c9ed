"""EBGAN and DCGAN: two players, a step each."""

from dataclasses import replace
from math import log

import pytest
import torch

from sanslabel import encoders, losses
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.engine import players_of
from sanslabel.errors import BadInput
from sanslabel.methods.dcgan import DCGAN
from sanslabel.methods.ebgan import EBGAN
from sanslabel.randomness import normal

CLOCK = Clock(0, 0, 0, 10, 5)
METHODS = {
    "dcgan": DCGAN(noise=8, filters=8),
    "ebgan": EBGAN(noise=8, code=6, filters=8),
    "ebgan without a code": EBGAN(noise=8, code=None, filters=8),
    "ebgan with softplus": EBGAN(noise=8, cost="softplus", filters=8),
}
both = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def networks(method, name="dcgan", **options):
    torch.manual_seed(0)
    encoder = encoders.build(name, channels=1, image_size=8, **options)
    return method.networks(encoder, Facts.of_images(64, 1, 8, 8, 0)).train()


def batch_of(count: int = 16) -> Batch:
    index = torch.arange(count)
    images = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return Batch.of_images(images, index, index * 2654435761 % 2**32, index)


@both
def test_a_step_for_one_player_leaves_the_other_one_alone(method):
    net = networks(method)
    players = players_of(net, method.recipe, 64)
    assert set(players) == {"critic", "generator"}
    state = lambda player: [p.clone() for p in net.get_submodule(player).parameters()]  # noqa: E731
    seen = []
    for objective in method.step(net, batch_of(), CLOCK):
        before = {name: state(name) for name in players}
        other = ({"critic", "generator"} - {objective.player}).pop()
        gradients = [None if p.grad is None else p.grad.clone() for p in net.get_submodule(other).parameters()]
        players[objective.player].descend(objective.loss, CLOCK)
        after = [p.grad for p in net.get_submodule(other).parameters()]
        assert all(
            torch.equal(a, b) if a is not None and b is not None else a is b
            for a, b in zip(gradients, after, strict=True)
        )
        assert all(torch.equal(a, b) for a, b in zip(before[other], state(other), strict=True))
        assert not any(
            torch.equal(a, b) for a, b in zip(before[objective.player], state(objective.player), strict=True)
        )
        seen.append(objective.player)
    assert seen == ["critic", "generator"]


def test_a_discriminator_that_cannot_tell_costs_2_ln_2_and_ln_2():
    method = METHODS["dcgan"]
    net = networks(method)
    torch.nn.init.zeros_(net.critic.head.weight)
    critic, generator = method.step(net, batch_of(), CLOCK)
    assert critic.loss.item() == pytest.approx(1.386294, abs=1e-6)
    assert critic.trivial == pytest.approx(2 * log(2))
    assert generator.loss.item() == pytest.approx(0.693147, abs=1e-6)
    assert (critic.terms["real"].item(), critic.terms["fake"].item()) == (0.5, 0.5)


def test_dcgan_s_steps_are_the_loop_s():
    """Real and fake in passes of their own; after the critic's update the same samples are judged again."""
    method, batch = METHODS["dcgan"], batch_of()
    net, twin = networks(method), networks(method)
    steps = method.step(net, batch, CLOCK)
    first = next(steps)
    fake = (twin.generator(normal(batch.key, 8, 1)).tanh() + 1) / 2
    logits = lambda images: twin.critic.head(twin.critic.encoder(images)).squeeze(1)  # noqa: E731
    torch.testing.assert_close(first.loss, losses.discrimination(logits(batch.images().pixels), logits(fake)))
    with torch.no_grad():  # the update
        for each in (net, twin):
            each.critic.head.weight.mul_(2.0)
    torch.testing.assert_close(next(steps).loss, losses.deception(logits(fake)))


@pytest.mark.parametrize("scale", [0.0, 1e-3])
def test_ebgan_where_all_images_cost_the_same_has_the_margin_for_its_loss(scale):
    """Energies of one constant c up to the margin: the loss is m, whatever c is."""
    method = replace(METHODS["ebgan with softplus"], margin=0.9)
    net = networks(method)
    torch.nn.init.zeros_(net.critic.head.weight)
    torch.nn.init.constant_(net.critic.head.bias, scale)
    critic, _ = method.step(net, batch_of(), CLOCK)
    assert critic.loss.item() == pytest.approx(0.9, rel=1e-6)
    assert critic.trivial == 0.9


@pytest.mark.parametrize("code", [None, 6])
def test_ebgan_s_steps_are_the_loop_s(code):
    method, batch = replace(METHODS["ebgan"], code=code, margin=0.5), batch_of()
    net, twin = networks(method), networks(method)
    steps = method.step(net, batch, CLOCK)
    first = next(steps)
    fake = (twin.generator(normal(batch.key, 8, 1)).tanh() + 1) / 2

    def cost(images):
        s = twin.critic.encoder(images)
        return s, (twin.critic.decoder(s).tanh() - (2 * images - 1)).square().mean(dim=(1, 2, 3))

    real, pushed = cost(batch.images().pixels)[1], cost(fake.detach())[1]
    torch.testing.assert_close(first.loss, real.mean() + (0.5 - pushed).clamp(min=0).mean())
    second = next(steps)
    codes, energy = cost(fake)
    torch.testing.assert_close(second.loss, energy.mean() + 0.1 * losses.pull_away(codes))
    weight = twin.generator.layers[1].weight
    (expected,) = torch.autograd.grad(energy.mean() + 0.1 * losses.pull_away(codes), weight)
    (found,) = torch.autograd.grad(second.loss, net.generator.layers[1].weight)
    torch.testing.assert_close(found, expected, msg="the energy depends on a sample twice, and both count")


def test_samples_beyond_the_margin_leave_the_critic_alone():
    """Each by itself: with a margin between the samples' energies those below it alone are pushed."""
    net, batch = networks(METHODS["ebgan"]), batch_of()
    method = METHODS["ebgan"]
    fake = method.decode(net, normal(batch.key, method.noise, 1)).detach()
    of_real, of_fake = (method.codes_and_energy(net, images)[1] for images in (batch.images().pixels, fake))
    weights = list(net.critic.parameters())
    margin = of_fake.median().item() + 1e-9
    for bound, kept in ((of_fake.min().item() / 2, 0), (margin, int((of_fake < margin).sum()))):
        pushed = sum((bound - energy for energy in of_fake if energy < bound), start=torch.zeros(()))
        expected = torch.autograd.grad(of_real.mean() + pushed / len(of_fake), weights, retain_graph=True)
        objective = next(replace(method, margin=bound).step(net, batch, CLOCK))
        assert int((of_fake < bound).sum()) == kept
        found = torch.autograd.grad(objective.loss, weights)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-7)


def test_ebgan_has_the_reference_s_widths_and_no_layer_of_67_million_weights():
    """At 64 pixels the encoder's maps have 8,192 numbers. As a code, they would need 8192 x 512 x 4 x 4 weights."""
    with torch.device("meta"):
        encoder = encoders.build("dcgan", channels=3, image_size=64)
        net = EBGAN().networks(encoder, Facts.of_images(64, 3, 64, 64, 0))
    assert (encoder.width, net.critic.encoder.width) == (8192, 32)
    assert net.critic.decoder.layers[1].weight.shape == (32, 512, 4, 4)
    assert net.generator.layers[1].weight.shape == (62, 512, 4, 4)
    assert max(p.numel() for p in net.parameters()) == 512 * 256 * 4 * 4


@both
def test_what_a_trained_one_can_do(method):
    net, images = networks(method).eval(), batch_of().images().pixels
    assert method.prior(net, torch.arange(3)).shape == (3, 8)
    made = method.sample(net, torch.arange(5))
    assert made.shape == (5, 1, 8, 8)
    assert made.min() >= 0
    assert made.max() <= 1
    torch.testing.assert_close(made[3:], method.sample(net, torch.tensor([3, 4])))
    energies = method.energy_of(net, images)
    assert energies.shape == (16,)
    assert energies.dtype == torch.float32
    assert list(method.encoders(net)) == ["critic"]
    if isinstance(method, EBGAN):
        assert energies.min() >= 0


def test_the_discriminator_of_dcgan_is_its_own_and_ebgan_takes_others():
    with pytest.raises(BadInput, match="leave `encoder` out"):
        networks(METHODS["dcgan"], "conv")
    for name, options in (("conv", {}), ("mlp", {"hidden": (9, 7)})):
        net = networks(METHODS["ebgan"], name, **options)
        assert len(list(METHODS["ebgan"].step(net, batch_of(), CLOCK))) == 2
