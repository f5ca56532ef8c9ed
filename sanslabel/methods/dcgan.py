"""DCGAN: a discriminator distinguishes data from generated images, and a generator learns to deceive it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import log
from typing import Annotated, ClassVar

from torch import Tensor, nn

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.constraints import Positive
from sanslabel.distributed import gather
from sanslabel.encoders import DCGAN as Discriminator
from sanslabel.encoders import Encoder
from sanslabel.errors import BadInput
from sanslabel.heads.decoders import Generator
from sanslabel.losses import deception, discrimination
from sanslabel.memory import without_statistics
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import AdamW
from sanslabel.randomness import normal
from sanslabel.recipe import Recipe

LATENT = 1
"""the random stream of latents"""
ADAM = AdamW(lr=2e-4, betas=(0.5, 0.999))


@dataclass(frozen=True, kw_only=True)
class DCGAN(Method):
    """Deep convolutional adversarial networks (Radford et al. 2016). The energy of an image is minus the
    discriminator's logit that it is data. Data and generated images pass through the discriminator one after the other,
    each with BatchNorm statistics of their own. The running statistics are those of data alone, where the example's
    follow both. The generator descends -ln D(G(z)).

    Initial weights, learning rates and batch are the paper's. Kernels of 4, 64 filters, 25 epochs and normal latents
    are from PyTorch's example at 64 pixels. The authors' code has kernels of 5, 128 filters and uniform latents.
    Smaller images have fewer stages."""

    family = Family.GENERATIVE
    energy = "minus the discriminator's logit that an image is data"
    prevents_collapse = "generated images are distinguished from data; yet all of them may become the same"
    paper = "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks"
    year = 2016
    needs = "the encoder `dcgan`, which is a discriminator"
    unit: ClassVar[str] = ""

    noise: Annotated[int, Positive] = 100
    """width of a latent"""
    filters: Annotated[int, Positive] = 64
    """channels of the generator's last maps"""
    view: views.View = views.WHOLE

    recipe = Recipe(
        encoder="dcgan", optimizer={"critic": ADAM, "generator": ADAM}, batch=128, epochs=25, final_lr_factor=1.0
    )
    small = Recipe(
        encoder={"name": "dcgan", "filters": 32},
        optimizer={"critic": ADAM, "generator": ADAM},
        batch=64,
        epochs=20,
        final_lr_factor=1.0,
        hyperparameters=dict(filters=32),
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        if not isinstance(encoder, Discriminator):
            raise BadInput(
                f"DCGAN trains a discriminator of its own, not {encoder.config['name']}; leave --encoder out."
            )
        head = nn.Linear(encoder.width, 1, bias=False)  # acts as the last convolution, which covers its whole input
        nn.init.normal_(head.weight, 0.0, 0.02)
        channels, size = encoder.config["channels"], encoder.config["image_size"]
        generator = Generator(self.noise, channels, size, self.filters)
        return Networks(critic=Networks(encoder=encoder, head=head), generator=generator)

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        real, fake = self.view(batch, 0), self.sample(net, batch.key)
        h = net.critic.encoder(real)
        of_real = gather(net.critic.head(h).squeeze(1))
        with without_statistics(net.critic):  # running statistics stay the data's, for energies of data later
            of_fake = gather(self.logits(net, fake.detach()))
        yield Objective(
            discrimination(of_real, of_fake),
            player="critic",
            terms={"real": of_real.sigmoid().mean(), "fake": of_fake.sigmoid().mean()},
            embedding=gather(h),
            generated=(fake[:8], real[:8]),
            trivial=2 * log(2),
        )
        with without_statistics(net.critic):
            of_fake = gather(self.logits(net, fake))
        yield Objective(deception(of_fake), player="generator", trivial=log(2))

    def encoders(self, net: Networks) -> Mapping[str, nn.Module]:
        return {"critic": net.critic.encoder}

    def prior(self, net: Networks, key: Tensor) -> Tensor:
        return normal(key, self.noise, LATENT)

    def decode(self, net: Networks, codes: Tensor) -> Tensor:
        return (net.generator(codes).tanh() + 1) / 2

    def sample(self, net: Networks, key: Tensor) -> Tensor:
        return self.decode(net, self.prior(net, key))

    def energy_of(self, net: Networks, images: Tensor) -> Tensor:
        return -self.logits(net, images).float()

    def logits(self, net: Networks, images: Tensor) -> Tensor:
        """Returns the discriminator's logits that images are data, (N,)."""
        return net.critic.head(net.critic.encoder(images)).squeeze(1)
