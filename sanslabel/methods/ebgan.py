"""EBGAN: a critic gives low energy to data and high energy to generated images; a generator learns to lower it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from torch import Tensor, nn
from torch.nn.functional import softplus

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.constraints import NonNegative, Positive
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder, LinearCode
from sanslabel.heads.decoders import decoder, generator, reconstruction
from sanslabel.losses import margin_energy, pull_away, squared_error
from sanslabel.memory import without_statistics
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import AdamW
from sanslabel.randomness import normal
from sanslabel.recipe import Recipe

LATENT = 1
"""the random stream of latents"""
ADAM = AdamW(lr=2e-4, betas=(0.5, 0.999))


@dataclass(frozen=True, kw_only=True)
class EBGAN(Method):
    """An energy-based adversarial network (Zhao et al. 2017). The energy of an image is the output of a cost network,
    which is never below 0. By default it is the squared error of the image's reconstruction. The critic descends C(y) +
    [m - C(G(z))]₊ and the generator descends C(G(z)), each in a step of its own.

    The loss is the paper's: a hinge for each sample, squared cosines in the pull-away term and its weight, and a
    gradient through both places of an image in its error. The widths of code and noise, the margin, Adam and the batch
    are those of a common PyTorch reference. The margin is in the unit of the energy, a mean over pixels in [-1, 1]. The
    paper's energy is a norm, so its margins have another unit. Both networks have DCGAN's layers; the reference's are
    smaller. The critic moves first; in the reference, the generator does. BatchNorm's running statistics are those of
    data alone, since energies of data are read with them later."""

    family = Family.GENERATIVE
    energy = "the cost network's output, by default the squared error of an image's reconstruction"
    prevents_collapse = "generated images must cost at least the margin; pulling their codes apart keeps them diverse"
    paper = "Energy-based Generative Adversarial Network"
    year = 2017
    unit: ClassVar[str] = ""

    margin: Annotated[float, Positive] = 1.0
    """m, the energy that a generated image should have at least"""
    cost: Literal["reconstruction", "softplus"] = "reconstruction"
    """the cost network: an autoencoder's squared error, or a softplus on the encoder's representation"""
    pull_away: Annotated[float, NonNegative] = 0.1
    """weight of the mean squared cosine of the generated images' codes; 0 leaves it out"""
    noise: Annotated[int, Positive] = 62
    """width of a latent"""
    code: Annotated[int | None, Positive] = 32
    """width of the autoencoder's code; None takes the encoder's representation as the code"""
    filters: Annotated[int, Positive] = 64
    """channels of the last maps of generator and decoder, if the encoder is convolutional"""
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
        hyperparameters=dict(margin=0.1, code=None, noise=2),
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        if self.cost == "softplus":
            critic = Networks(encoder=encoder, head=nn.Linear(encoder.width, 1))
        else:
            autoencoder = encoder if self.code is None else LinearCode.on(encoder, self.code)
            critic = Networks(encoder=autoencoder, decoder=decoder(autoencoder, self.filters))
        return Networks(critic=critic, generator=generator(encoder, self.noise, self.filters))

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        real, fake = self.view(batch, 0), self.sample(net, batch.key)
        codes, of_real = self.codes_and_energy(net, real)
        with without_statistics(net.critic):  # running statistics stay the data's, for energies of data later
            _, of_fake = self.codes_and_energy(net, fake.detach())
        of_real, of_fake = gather(of_real), gather(of_fake)
        yield Objective(
            margin_energy(of_real, of_fake, self.margin),
            player="critic",
            terms={"energy_real": of_real.mean(), "energy_fake": of_fake.mean()},
            embedding=gather(codes),
            generated=(fake[:8], real[:8]),
            trivial=self.margin,
        )
        with without_statistics(net.critic):
            codes, of_fake = self.codes_and_energy(net, fake)
        energy, similarity = gather(of_fake).mean(), pull_away(gather(codes))
        yield Objective(
            energy + self.pull_away * similarity,
            player="generator",
            terms={"energy": energy, "pull_away": similarity},
        )

    def encoders(self, net: Networks) -> Mapping[str, nn.Module]:
        return {"critic": net.critic.encoder}

    def prior(self, net: Networks, key: Tensor) -> Tensor:
        return normal(key, self.noise, LATENT)

    def decode(self, net: Networks, codes: Tensor) -> Tensor:
        return (net.generator(codes).tanh() + 1) / 2

    def sample(self, net: Networks, key: Tensor) -> Tensor:
        return self.decode(net, self.prior(net, key))

    def energy_of(self, net: Networks, images: Tensor) -> Tensor:
        return self.codes_and_energy(net, images)[1]

    def codes_and_energy(self, net: Networks, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the cost network's codes (N, D), and its energies (N,) in float32."""
        if self.cost == "softplus":
            code = net.critic.encoder(images)
            return code, softplus(net.critic.head(code).float()).squeeze(1)
        y = 2 * images - 1
        code, r = reconstruction(net.critic.encoder, net.critic.decoder, y)
        return code, squared_error(r, y)
