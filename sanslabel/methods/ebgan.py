"""EBGAN: a cost network gives data low energy, and what a generator makes of noise at least the margin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import softplus

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder, LinearCode
from sanslabel.heads.decoders import decoder, generator, reconstruction
from sanslabel.losses import margin_energy, pull_away, squared_error
from sanslabel.memory import without_statistics
from sanslabel.methods.method import Method, Networks, Objective
from sanslabel.optimizers import AdamW
from sanslabel.randomness import normal
from sanslabel.recipe import Recipe

LATENT = 1
"""the stream that latents are drawn from"""
ADAM = AdamW(lr=2e-4, betas=(0.5, 0.999))


@dataclass(frozen=True, kw_only=True)
class EBGAN(Method):
    """An energy-based adversarial network (Zhao et al. 2017). Energy of an image: what a cost network says, never below
    0, by default the squared error of its reconstruction. The critic descends C(y) + [m - C(G(z))]₊ and the generator
    C(G(z)), each in a step of its own. The margin is in the energy's own unit: a mean over pixels in [-1, 1].
    Rates and the weight of the pull-away term are a common PyTorch reference's; the paper's margins are of sums."""

    family = "generative"
    energy = "the cost network's, the squared error of an image's reconstruction"
    prevents_collapse = "generated samples must cost at least the margin; pulling their codes apart keeps them various"
    paper = "Energy-based Generative Adversarial Network"
    year = 2017
    positive, weights = ("margin", "noise", "code", "filters"), ("pull_away",)

    margin: float = 1.0
    """m"""
    cost: Literal["reconstruction", "softplus"] = "reconstruction"
    """the cost network: an autoencoder's squared error, or a softplus on the encoder's representation"""
    pull_away: float = 0.1
    """weight of the mean squared cosine of the generated samples' codes; 0 leaves it out"""
    noise: int = 100
    """numbers in a latent"""
    code: int | None = None
    """numbers in the autoencoder's code; None takes the encoder's representation for it"""
    filters: int = 64
    """channels of the last maps of generator and decoder, where the encoder is convolutional"""
    view: views.View = views.WHOLE

    recipe = Recipe(
        encoder="dcgan", optimizer={"critic": ADAM, "generator": ADAM}, batch=64, epochs=200, final_lr_factor=1.0
    )
    small = Recipe(
        encoder={"name": "dcgan", "filters": 32},
        optimizer={"critic": ADAM, "generator": ADAM},
        batch=64,
        epochs=20,
        final_lr_factor=1.0,
        hyperparameters=dict(margin=0.1, code=32, filters=32, noise=64),
    )
    toy = Recipe(
        encoder={"name": "mlp", "hidden": [128, 128]},
        optimizer={"critic": ADAM, "generator": ADAM},
        epochs=400,
        final_lr_factor=1.0,
        hyperparameters=dict(margin=0.1, noise=2),
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        if self.cost == "softplus":
            critic = Networks(encoder=encoder, head=nn.Linear(encoder.width, 1))
        else:
            coded = encoder if self.code is None else LinearCode.on(encoder, self.code)
            critic = Networks(encoder=coded, decoder=decoder(coded, self.filters))
        return Networks(critic=critic, generator=generator(encoder, self.noise, self.filters))

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        real, fake = self.view(batch, 0), self.decoded(net, normal(batch.key, self.noise, LATENT))
        codes, of_real = self._cost(net, real)
        with without_statistics(net.critic):  # those of BatchNorm are the data's, whose energies are asked for later
            _, of_fake = self._cost(net, fake.detach())
        of_real, of_fake = gather(of_real), gather(of_fake)
        yield Objective(
            margin_energy(of_real, of_fake, self.margin),
            player="critic",
            terms={"energy_real": of_real.mean(), "energy_fake": of_fake.mean()},
            embedding=gather(codes),
            images={"data": real[:8], "samples": fake[:8]},
            trivial=self.margin,
        )
        with without_statistics(net.critic):
            codes, of_fake = self._cost(net, fake)
        apart = pull_away(gather(codes))
        yield Objective(gather(of_fake).mean() + self.pull_away * apart, player="generator", terms={"pull_away": apart})

    def encoders(self, net: Networks) -> Mapping[str, nn.Module]:
        return {"critic": net.critic.encoder}

    def latents(self, net: Networks, key: Tensor) -> Tensor:
        return normal(key, self.noise, LATENT)

    def decoded(self, net: Networks, codes: Tensor) -> Tensor:
        return (net.generator(codes).tanh() + 1) / 2

    def energies(self, net: Networks, images: Tensor) -> Tensor:
        return self._cost(net, images)[1]

    def _cost(self, net: Networks, images: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (N, D) and energies (N,) in float32."""
        if self.cost == "softplus":
            code = net.critic.encoder(images)
            return code, softplus(net.critic.head(code).float()).squeeze(1)
        y = 2 * images - 1
        code, r = reconstruction(net.critic.encoder, net.critic.decoder, y)
        return code, squared_error(r, y)
